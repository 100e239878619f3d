/** The stream of figures and records, which says when it is broken, and comes back. */

import { query } from './api';
import type { FlowEdge } from './types';

export type Figures = {
  at: number;
  events_per_s: number | null;
  answers_per_s: number | null;
  features_delay_ms: number | null;
  alerts: number;
  edges: FlowEdge[];
};
export type StreamRecord = {
  topic: string;
  partition: number;
  offset: number;
  at: number;
  request_id: string | null;
  kind: string;
  visitor: string | null;
  item: string | null;
  placement: string | null;
  code: string | null;
  bytes?: number;
  /** The record as it stands on its topic; null where it is too large or no JSON. */
  value: Record<string, unknown> | null;
};
export type LeftOut = { shown: number; of: number; dropped: number };
export type Gap = { from: number; until: number };
export type Wanted = {
  figures?: boolean;
  records?: boolean;
  topic?: string;
  kind?: string;
  visitor?: string;
  item?: string;
  placement?: string;
  code?: string;
};

/** Figures come each second; without any for so long, the stream is broken. */
const SILENT_MS = 6000;
const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 15_000];

type Told = {
  figures?: (figures: Figures) => void;
  record?: (record: StreamRecord) => void;
  leftOut?: (share: LeftOut) => void;
  gap?: (gap: Gap) => void;
};

export class LiveStream {
  /** `broken` from the first failure until figures come again. */
  state = $state<'connecting' | 'open' | 'broken'>('connecting');
  /** When the newest message came, ms. */
  heardAt = $state(0);
  /** When the stream broke, ms; 0 while it does not. */
  brokenAt = $state(0);

  #source: EventSource | null = null;
  #watch = 0;
  #again = 0;
  #failures = 0;
  #ended = false;

  constructor(
    private readonly wanted: Wanted,
    private readonly told: Told,
    private readonly open: (url: string) => EventSource = (url) => new EventSource(url),
  ) {}

  /** Begin; returns what ends it, for an effect. */
  run(): () => void {
    this.#connect();
    this.#watch = window.setInterval(() => {
      if (this.state === 'open' && Date.now() - this.heardAt > SILENT_MS) this.#broke();
    }, 1000);
    return () => {
      this.#ended = true;
      clearInterval(this.#watch);
      clearTimeout(this.#again);
      this.#source?.close();
    };
  }

  #connect(): void {
    // Figures always come, as the sign of life of a stream whose records are rare.
    const source = this.open(
      '/v1/stream' + query({ figures: 1, ...this.wanted, records: this.wanted.records ? 1 : null }),
    );
    this.#source = source;
    source.addEventListener('figures', (event) => {
      const figures = this.#heard<Figures>(event);
      if (figures) this.told.figures?.(figures);
    });
    source.addEventListener('record', (event) => {
      const record = this.#heard<StreamRecord>(event);
      if (record) this.told.record?.(record);
    });
    source.addEventListener('left_out', (event) => {
      const share = this.#heard<LeftOut>(event);
      if (share) this.told.leftOut?.(share);
    });
    source.addEventListener('end', () => this.#broke());
    source.addEventListener('error', () => this.#broke());
  }

  #heard<T>(event: Event): T | null {
    const now = Date.now();
    if (this.state === 'broken') {
      if (this.heardAt) this.told.gap?.({ from: this.heardAt, until: now });
      this.brokenAt = 0;
    }
    this.state = 'open';
    this.heardAt = now;
    this.#failures = 0;
    try {
      return JSON.parse((event as MessageEvent<string>).data) as T;
    } catch {
      return null;
    }
  }

  #broke(): void {
    if (this.#ended) return;
    this.#source?.close();
    if (this.state !== 'broken') this.brokenAt = Date.now();
    this.state = 'broken';
    clearTimeout(this.#again);
    const pause = PAUSES_MS[Math.min(this.#failures++, PAUSES_MS.length - 1)]!;
    this.#again = window.setTimeout(() => this.#connect(), pause);
  }
}
