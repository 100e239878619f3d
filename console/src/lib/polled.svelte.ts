/** A figure that is asked for again and again, and knows when it is stale. */

import { told } from './api';

export class Polled<T> {
  value = $state.raw<T | null>(null);
  /** When the value came, ms; 0 before the first one. */
  at = $state(0);
  /** Why the newest request failed; empty where it did not. */
  failure = $state('');

  #timer = 0;
  #asked: AbortController | null = null;
  #every: number;

  /**
   * @param ask The request.
   * @param every Milliseconds between two requests while the page is in view; 0 asks once.
   */
  constructor(
    private readonly ask: (signal: AbortSignal) => Promise<T>,
    every: number,
  ) {
    this.#every = every;
  }

  /** The value is older than three requests, or the newest request failed. */
  stale(now: number): boolean {
    return this.value !== null && (this.failure !== '' || (this.#every > 0 && now - this.at > 3 * this.#every + 2000));
  }

  /** Begin; returns what ends it, for an effect. */
  run(): () => void {
    const seen = () => {
      if (!document.hidden) void this.now();
    };
    document.addEventListener('visibilitychange', seen);
    void this.now();
    return () => {
      document.removeEventListener('visibilitychange', seen);
      clearTimeout(this.#timer);
      this.#asked?.abort();
      this.#asked = null;
    };
  }

  /** Ask now. An older request that is under way is given up. */
  async now(): Promise<void> {
    clearTimeout(this.#timer);
    this.#asked?.abort();
    const asked = (this.#asked = new AbortController());
    try {
      this.value = await this.ask(asked.signal);
      this.at = Date.now();
      this.failure = '';
    } catch (error) {
      if (asked.signal.aborted) return;
      this.failure = told(error);
    }
    if (this.#asked === asked && this.#every > 0 && !document.hidden) {
      this.#timer = window.setTimeout(() => void this.now(), this.#every);
    }
  }
}

/** The time, once a second, for ages. */
export const clock = $state({ now: Date.now() });
setInterval(() => {
  clock.now = Date.now();
}, 1000);
