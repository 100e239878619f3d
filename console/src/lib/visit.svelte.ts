/** A visit to the shop: who visits, the rows they see, and what each click changes, in milliseconds. */

import { tick } from 'svelte';
import { get, part, peer, told } from './api';
import { boughtTogether, preview, recentlyViewed, recommended, similar, trending } from './lists';
import { LiveStream, type StreamRecord } from './stream.svelte';
import type { Contrasting } from './tastes';
import type { Tracker } from './tracker';
import type { Answer, EntityFeatures, Preview } from './types';
import { hasWay, wayOf, type Way } from './way';

/** Items of a row. */
const ROW = 12;
/** Events on items that a visitor to be brings along. */
const BROUGHT = 20;
/** Longest wait for a changed row, ms. */
const PATIENCE_MS = 10_000;
/** The most events that `history_length` counts. */
const LONGEST = 100;

export type Click = { key: number; item: string; /** ms from the click to the changed row; null while it is awaited. */ ms: number | null; moved: number; failure: string };

export class Visit {
  /** The anonymous id of this browser; empty before the tracker is there. */
  device = $state('');
  /** Who is visiting: a new visitor, one with another's history, or a history by hand. */
  as = $state.raw<{ kind: 'new' } | { kind: 'like'; visitor: Contrasting } | { kind: 'hand' }>({ kind: 'new' });
  hand = $state.raw<string[]>([]);
  personal = $state.raw<Answer | null>(null);
  reasons = $state.raw<Preview | null>(null);
  everyone = $state.raw<Answer | null>(null);
  recent = $state.raw<Answer | null>(null);
  looked = $state.raw<{ id: string; similar: Answer | null; together: Answer | null } | null>(null);
  clicks = $state.raw<Click[]>([]);
  way = $state.raw<Way | null>(null);
  /** Places before the newest change, by item. */
  before = $state.raw<Map<string, number>>(new Map());
  failure = $state('');
  busy = $state(false);

  #seen: StreamRecord[] = [];
  #clicked = '';
  #round = 0;

  constructor(
    private readonly tracker: Tracker | null,
    private readonly explained: () => boolean,
  ) {
    this.device = tracker?.anonymousId() ?? '';
  }

  /** Show all rows. */
  async begin(): Promise<void> {
    await Promise.all([
      this.#part(async () => void (this.everyone = await trending(this.#shown))),
      this.#refresh(),
    ]);
  }

  /** Follow the events of this device; returns what ends it. */
  follow(): () => void {
    if (!this.device) return () => {};
    this.#seen = [];
    const stream = new LiveStream(
      { records: true, visitor: this.device },
      {
        record: (record) => {
          this.#seen = [...this.#seen, record].slice(-500);
          const event = this.#seen.findLast((each) => hasWay(each) && each.kind === 'click' && each.item === this.#clicked);
          if (event) this.way = wayOf(event, this.#seen);
        },
      },
    );
    return stream.run();
  }

  /** A click on an item of a row. The tracker has sent it by itself; by hand nothing is sent. */
  async click(item: string): Promise<void> {
    const began = performance.now();
    const round = ++this.#round;
    const click: Click = { key: round, item, ms: null, moved: 0, failure: '' };
    this.clicks = [click, ...this.clicks].slice(0, 50);
    this.#clicked = item;
    this.way = null;
    const sent = this.as.kind !== 'hand';
    const settle = (found: Partial<Click>) => {
      this.clicks = this.clicks.map((each) => (each.key === round ? { ...each, ...found } : each));
    };
    try {
      // The row comes first: drawing the rest meanwhile would take its time.
      const answer = sent ? await this.#changed(round) : await this.#byHand([...this.hand.filter((each) => each !== item), item]);
      if (!answer || round !== this.#round) return settle({ failure: 'overtaken by the next click' });
      const moved = this.#show(answer);
      await tick();
      await new Promise(requestAnimationFrame);
      settle({ ms: performance.now() - began, moved });
    } catch (error) {
      settle({ failure: told(error) });
    }
    if (round !== this.#round) return;
    this.looked = { id: item, similar: null, together: null };
    await Promise.all([sent ? this.#around(item) : null, this.#aside()]);
  }

  /** Begin again as somebody: a new device, with the latest events of another visitor, or of nobody. */
  async become(visitor: Contrasting | null): Promise<void> {
    if (!this.tracker) return;
    this.busy = true;
    this.#reset(visitor ? { kind: 'like', visitor } : { kind: 'new' });
    this.tracker.reset();
    this.tracker.page('Shop');
    this.device = this.tracker.anonymousId() ?? '';
    await this.#part(async () => {
      if (visitor) {
        const found = await get<EntityFeatures>(peer('features', `/v1/features/visitor/${part(visitor.id)}`));
        const brought = (found.sequence ?? []).slice(-BROUGHT);
        for (const event of brought) this.tracker!.track('Product Viewed', { product_id: event.item_id });
        this.tracker!.flush();
        const until = performance.now() + PATIENCE_MS;
        while (performance.now() < until && (await this.#ask()).history_length! < brought.length);
      }
    });
    await this.#refresh();
    this.busy = false;
  }

  /** Make the history by hand: no event is sent. */
  async handmade(items: string[]): Promise<void> {
    if (this.as.kind !== 'hand') this.#reset({ kind: 'hand' });
    await this.#part(async () => {
      this.#show(await this.#byHand(items));
    });
  }

  #reset(as: Visit['as']): void {
    this.as = as;
    this.hand = [];
    this.#round++;
    this.clicks = [];
    this.looked = this.way = this.reasons = this.personal = this.recent = null;
    this.before = new Map();
  }

  async #refresh(): Promise<void> {
    if (!this.device) return;
    await this.#part(async () => void this.#show(await this.#ask()));
    await this.#aside();
  }

  /** What a change of the row brings with it, but does not wait for. */
  async #aside(): Promise<void> {
    if (this.as.kind === 'hand') return;
    await Promise.all([
      this.#part(async () => {
        this.recent = await recentlyViewed(this.device, ROW);
      }),
      this.explain(),
    ]);
  }

  /** The lists around an item. They count as shown, so by hand they are not asked for. */
  async #around(item: string): Promise<void> {
    await Promise.all([
      this.#part(async () => this.#look({ similar: await similar(item, this.#shown) }, item)),
      this.#part(async () => this.#look({ together: await boughtTogether(item, this.#shown) }, item)),
    ]);
  }

  /** The reasons of the present row, where they are wanted. */
  async explain(): Promise<void> {
    if (!this.explained() || this.as.kind === 'hand' || !this.device) return;
    await this.#part(async () => void (this.reasons = await preview({ user_id: this.device, n: ROW })));
  }

  #ask(): Promise<Answer> {
    return recommended(this.device, ROW);
  }

  get #shown() {
    return { n: ROW, user_id: this.device };
  }

  /** The row once it knows of one more event; null where a newer click came. */
  async #changed(round: number): Promise<Answer | null> {
    const known = this.personal;
    const until = performance.now() + PATIENCE_MS;
    const ids = (answer: Answer | null) => answer?.items.map((item) => item.item_id).join('\n');
    while (performance.now() < until) {
      if (round !== this.#round) return null;
      const answer = await this.#ask();
      const full = (known?.history_length ?? 0) >= LONGEST;
      if (full ? ids(answer) !== ids(known) : (answer.history_length ?? 0) > (known?.history_length ?? 0)) return answer;
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    throw new Error('The click did not arrive within ten seconds');
  }

  async #byHand(items: string[]): Promise<Preview> {
    this.hand = items;
    const answer = await preview({ history: items.map((item_id) => ({ item_id, event_type: 'click' })), n: ROW });
    this.reasons = answer;
    return answer;
  }

  /** Show a list, and return how many of its items were not there before, or moved. */
  #show(answer: Answer): number {
    const before = new Map(this.personal?.items.map((item, place) => [item.item_id, place]));
    this.before = this.personal ? before : new Map(answer.items.map((item, place) => [item.item_id, place]));
    this.personal = answer;
    return answer.items.filter((item, place) => this.before.get(item.item_id) !== place).length;
  }

  #look(found: { similar?: Answer; together?: Answer }, item: string): void {
    if (this.looked?.id === item) this.looked = { ...this.looked, ...found };
  }

  /** Do a part of the page. Where it fails, the others stay. */
  async #part(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.failure = '';
    } catch (error) {
      this.failure = told(error);
    }
  }
}
