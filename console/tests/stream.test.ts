import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LiveStream, type Gap } from '../src/lib/stream.svelte';

class Source extends EventTarget {
  static all: Source[] = [];
  closed = false;
  constructor(readonly url: string) {
    super();
    Source.all.push(this);
  }
  close() {
    this.closed = true;
  }
  tell(name: string, data: unknown = {}) {
    this.dispatchEvent(Object.assign(new Event(name), { data: JSON.stringify(data) }));
  }
}
const open = (url: string) => new Source(url) as unknown as EventSource;

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
  vi.stubGlobal('window', globalThis);
  Source.all = [];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('a stream that breaks says so, comes back, and tells the gap', () => {
  const gaps: Gap[] = [];
  const stream = new LiveStream({ records: true, visitor: 'a/b' }, { gap: (gap) => gaps.push(gap) }, open);
  const end = stream.run();
  expect(Source.all[0]!.url).toBe('/v1/stream?figures=1&records=1&visitor=a%2Fb');
  Source.all[0]!.tell('figures');
  expect(stream.state).toBe('open');

  vi.advanceTimersByTime(1000);
  Source.all[0]!.tell('error');
  expect(stream.state).toBe('broken');
  expect(stream.brokenAt).toBe(1_001_000);
  vi.advanceTimersByTime(500);
  expect(Source.all).toHaveLength(2);
  expect(stream.state).toBe('broken');
  Source.all[1]!.tell('figures');
  expect(stream.state).toBe('open');
  expect(gaps).toEqual([{ from: 1_000_000, until: 1_001_500 }]);
  end();
});

test('a silent stream is broken, too, and pauses between tries grow', () => {
  const stream = new LiveStream({}, {}, open);
  const end = stream.run();
  Source.all[0]!.tell('figures');
  vi.advanceTimersByTime(8000);
  expect(stream.state).toBe('broken');
  const tries = () => Source.all.length;
  for (const pause of [1000, 2000, 4000, 8000, 15_000, 15_000]) {
    vi.advanceTimersByTime(500);
    Source.all.at(-1)!.tell('error');
    const before = tries();
    vi.advanceTimersByTime(pause - 1);
    expect(tries()).toBe(before);
    vi.advanceTimersByTime(1);
    expect(tries()).toBe(before + 1);
  }
  end();
});

test('an instance that ends is left at once, and an ended stream stays ended', () => {
  const stream = new LiveStream({}, {}, open);
  const end = stream.run();
  Source.all[0]!.tell('figures');
  Source.all[0]!.tell('end');
  expect(Source.all[0]!.closed).toBe(true);
  end();
  vi.advanceTimersByTime(60_000);
  expect(Source.all).toHaveLength(1);
});

test('a stream whose instance was killed is tried until another one answers, and tells one gap', () => {
  const gaps: Gap[] = [];
  const stream = new LiveStream({ records: true }, { gap: (gap) => gaps.push(gap) }, open);
  const end = stream.run();
  Source.all[0]!.tell('figures');
  // The connection breaks without a word, and a standby refuses until it acts.
  Source.all[0]!.tell('error');
  for (const pause of [500, 1000, 2000, 4000]) {
    vi.advanceTimersByTime(pause);
    Source.all.at(-1)!.tell('error');
    expect(stream.state).toBe('broken');
  }
  expect(stream.brokenAt).toBe(1_000_000);
  vi.advanceTimersByTime(8000);
  expect(Source.all).toHaveLength(6);
  Source.all[5]!.tell('figures');
  Source.all[5]!.tell('record');
  expect(stream.state).toBe('open');
  expect(gaps).toEqual([{ from: 1_000_000, until: 1_015_500 }]);
  expect(Source.all.map((source) => source.closed)).toEqual([true, true, true, true, true, false]);
  end();
});
