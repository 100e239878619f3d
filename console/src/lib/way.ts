/** The way of an event: received, applied by features, in the visitor's next list, with its times. */

import type { StreamRecord } from './stream.svelte';

export type Step = { name: string; at: number; /** ms since the step before. */ after: number | null };
export type Way = { steps: Step[]; /** What has not been seen yet; empty at the end. */ waitsFor: string };

const time = (value: unknown): number | null => (typeof value === 'number' ? value : null);

/** Whether a record has a way: it is an event of a visitor. */
export function hasWay(record: StreamRecord): boolean {
  return record.topic === 'interactions.v1' && record.value !== null;
}

/**
 * The way of an event.
 *
 * @param event A record of `interactions.v1`.
 * @param others Records that were seen, of any topic and in any order.
 */
export function wayOf(event: StreamRecord, others: StreamRecord[]): Way {
  const received = time(event.value?.received_at) ?? event.at;
  const steps: Step[] = [{ name: 'received by ingestion', at: received, after: null }];
  const add = (name: string, at: number) => steps.push({ name, at, after: at - steps.at(-1)!.at });
  add('on the topic', Math.max(event.at, received));

  const first = (topic: string, at: (record: StreamRecord) => number | null, since: number): number | null => {
    const times = others
      .filter((record) => record.topic === topic && record.visitor === event.visitor)
      .map(at)
      .filter((each): each is number => each !== null && each >= since);
    return times.length ? Math.min(...times) : null;
  };
  const applied = first('feature-updates.v1', (record) => time(record.value?.updated_at) ?? record.at, received);
  if (applied === null) return { steps, waitsFor: 'features to apply it' };
  add('applied by features', Math.max(applied, steps.at(-1)!.at));
  const listed = first('recommendations.v1', (record) => time(record.value?.timestamp) ?? record.at, applied);
  if (listed === null) return { steps, waitsFor: 'the visitor’s next list' };
  add('in the visitor’s next list', listed);
  return { steps, waitsFor: '' };
}
