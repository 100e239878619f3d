import { expect, test } from 'vitest';
import type { Alert, Overview } from '../src/lib/types';
import { verdictOf } from '../src/lib/verdict';

const overview = (changed: Record<string, unknown> = {}) =>
  ({
    snapshot: {
      services: [{ name: 'serving', state: 'ready', down: [], detail: '', latency_ms: 1 }],
      training: { reached: true, champion: { model: { version: '7' } }, runs: [] },
      freshness: { delay_ms: 84 },
      drift: { faults: { faults: [] } },
      ...changed,
    },
  }) as unknown as Overview;
const alert = (rule: string, severity: string, opened_at: number) =>
  ({ rule, severity, opened_at, summary: `${rule} it is`, runbook: `/runbook/${rule}.md` }) as Alert;

test('without anything open all is well, with the figures that say so', () => {
  const verdict = verdictOf(overview(), []);
  expect(verdict).toEqual({
    level: 'good',
    text: 'All is well: 1 services answer, version 7 serves and features are 84 ms behind',
    runbook: '',
    more: 0,
  });
});

test('the oldest critical alert is the heaviest, whatever opened since', () => {
  const open = [alert('feature_drift', 'warning', 1), alert('no_champion', 'critical', 3), alert('service_down', 'critical', 2)];
  const verdict = verdictOf(overview(), open);
  expect(verdict.text).toBe('Service down: service_down it is');
  expect(verdict.runbook).toBe('/runbook/service_down.md');
  expect([verdict.level, verdict.more]).toEqual(['bad', 2]);
});

test('a service that is away weighs before its alert opens, and not twice after', () => {
  const away = overview({ services: [{ name: 'serving', state: 'unready', down: ['kafka'], detail: '', latency_ms: 1 }] });
  expect(verdictOf(away, []).text).toBe('Serving waits for kafka');
  expect(verdictOf(away, [alert('service_down', 'critical', 1)]).more).toBe(0);
});

test('one that may sleep and does is no finding; no model is one, and a fault weighs more', () => {
  const asleep = overview({ services: [{ name: 'serving', state: 'asleep', down: [], detail: '', latency_ms: 0 }] });
  expect(verdictOf(asleep, []).level).toBe('good');
  const bare = { training: { reached: true, champion: null, runs: [] } };
  expect(verdictOf(overview(bare), []).runbook).toBe('/runbook/no_champion.md');
  const fault = { ...bare, drift: { faults: { faults: [{ measure: 'catalogue_items', why: 'not known' }] } } };
  expect(verdictOf(overview(fault), [])).toMatchObject({ level: 'bad', more: 1, text: 'Data fault, catalogue items: not known' });
});
