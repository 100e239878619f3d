import { expect, test } from 'vitest';
import { labelOf, levelOf, places, shown, speaks, widthOf } from '../src/lib/flow';
import { ago, duration, moment, ordinal, percent, rate } from '../src/lib/format';
import type { StreamRecord } from '../src/lib/stream.svelte';
import { contrasting, type Taste } from '../src/lib/tastes';
import { categoriesOf, priceOf, tileOf, titleOf } from '../src/lib/tile';
import type { Flow, FlowEdge } from '../src/lib/types';
import { wayOf } from '../src/lib/way';

test('a tile follows from category, brand and colour, and never changes', () => {
  const boot = { title: 'Alpine boot', category: 'boots', color: 'navy' };
  expect(tileOf('1', boot)).toEqual(tileOf('1', { ...boot }));
  expect(tileOf('1', boot)).toMatchObject({ shape: 'shoe', garment: true, ink: 'hsl(222 50% 30%)' });
  const film = tileOf('2', { title: 'The Wizard of Oz', categories: ['Adventure'] });
  expect(film).toMatchObject({ letters: 'WO', garment: false });
  expect(tileOf('3', { brand: 'x' }).ink).not.toBe(tileOf('3', { brand: 'y' }).ink);
});

test('an item without attributes, or with strange ones, has a title and a tile', () => {
  expect(titleOf('42', undefined)).toBe('42');
  expect(titleOf('42', { title: ['no', 'text'], name: 7 })).toBe('7');
  expect(categoriesOf({ categories: 'one' })).toEqual(['one']);
  expect(categoriesOf({ category: 'a', categories: [1, null, { x: 1 }] })).toEqual(['a', '1']);
  expect(priceOf({ price: 12.5, currency: 'not one' })).toBe('12.50');
  expect(tileOf('\u202e/<b>', { color: { no: 'colour' } }).shape).toBeTruthy();
});

test('contrasting visitors: the farthest first, in any order of arrival', () => {
  const tastes: Taste[] = [
    { id: 'a', shares: { Horror: 1 } },
    { id: 'b', shares: { Horror: 0.9, Drama: 0.1 } },
    { id: 'c', shares: { Musical: 1 } },
    { id: 'd', shares: { Drama: 0.5, Horror: 0.3, Musical: 0.2 } },
  ];
  const chosen = contrasting(tastes, 3);
  expect(chosen.map((each) => each.id)).toEqual(['c', 'a', 'd']);
  expect(chosen.map((each) => each.likes[0])).toEqual(['Musical', 'Horror', 'Drama']);
  expect(contrasting([...tastes].reverse(), 3)).toEqual(chosen);
  expect(contrasting([], 3)).toEqual([]);
});

const record = (topic: string, visitor: string, value: Record<string, unknown>) => ({ topic, visitor, at: 1_050, value }) as StreamRecord;

test('the way of an event goes to the next update and the list after it, of this visitor', () => {
  const click = record('interactions.v1', 'ada', { received_at: 1_000 });
  const others = [
    record('recommendations.v1', 'ada', { timestamp: 1_060 }),
    record('feature-updates.v1', 'bob', { updated_at: 1_070 }),
    record('feature-updates.v1', 'ada', { updated_at: 990 }),
    record('feature-updates.v1', 'ada', { updated_at: 1_080 }),
    record('recommendations.v1', 'ada', { timestamp: 1_120 }),
  ];
  expect(wayOf(click, others).steps.map((step) => step.after)).toEqual([null, 50, 30, 40]);
  expect(wayOf(click, others.slice(0, 3)).waitsFor).toBe('features to apply it');
  expect(wayOf(click, others.slice(0, 4)).waitsFor).toBe('the visitor’s next list');
});

const edge = (more: Partial<FlowEdge>): FlowEdge => ({ source: 'ingestion', target: 'interactions.v1', rate: null, lag: null, delay_ms: null, drops: null, ...more });

test('edges are as thick as their rate, and coloured by lag, delay and drops', () => {
  expect([0, 10, 1000, 1e9].map((each) => widthOf(edge({ rate: each })))).toEqual([1.2, 3.5, 7.8, 11]);
  expect(levelOf(edge({ rate: 5, lag: 3 }))).toBe('good');
  expect(levelOf(edge({ lag: 1_000 }))).toBe('warn');
  expect(levelOf(edge({ delay_ms: 60_000 }))).toBe('bad');
  expect(levelOf(edge({ rate: 0.2, drops: 0.5 }))).toBe('bad');
  expect(levelOf(edge({}))).toBe('quiet');
  expect(labelOf(edge({ rate: 412, lag: 21_400, delay_ms: 51_000 }))).toBe('412/s, 21,400 wait, 51 s');
  expect([speaks(edge({ rate: 0.2 })), speaks(edge({ rate: 0.2, drops: 1 }))]).toEqual([false, true]);
});

test('nodes stand in the order in which data passes them', () => {
  const node = (name: string, kind: 'service' | 'topic' | 'store') => ({ name, kind, title: name, state: null });
  const flow: Flow = {
    at: 0,
    nodes: [node('ingestion', 'service'), node('features', 'service'), node('monitoring', 'service'), node('interactions.v1', 'topic'), node('placements.v1', 'topic'), node('redis', 'store')],
    edges: [edge({}), edge({ source: 'monitoring', target: 'placements.v1' })],
  };
  const where = places(shown(flow, false));
  const order = ['ingestion', 'interactions.v1', 'features', 'redis', 'monitoring'].map((name) => where.get(name)!.x);
  expect(order).toEqual([...order].sort((a, b) => a - b));
  expect(new Set(order).size).toBe(5);
  expect(where.has('placements.v1')).toBe(false);
  expect(places(shown(flow, true)).has('placements.v1')).toBe(true);
});

test('numbers and times as people read them', () => {
  expect([0, 0.04, 3.14, 412.7].map(rate)).toEqual(['0', '<0.1', '3.1', '413']);
  expect([0.44, 84, 1_500, 51_000, 5_400_000].map(duration)).toEqual(['0.4 ms', '84 ms', '1.5 s', '51 s', '2 h']);
  expect([1, 3, 11, 21, 102].map(ordinal)).toEqual(['first', 'third', '11th', '21st', '102nd']);
  expect(percent(0.0941)).toBe('9.4 %');
  expect(ago(1_000, 61_000)).toBe('60 s ago');
  expect(ago(2_000, 1_000)).toBe('just now');
  expect(moment(Date.UTC(2020, 0, 2, 12), Date.UTC(2026, 0, 2, 12))).toContain('2020');
});
