/** The one sentence about the whole: all is well, or the heaviest thing that is not. */

import { duration, words } from './format';
import type { Alert, Overview } from './types';

export type Verdict = {
  level: 'good' | 'warn' | 'bad';
  text: string;
  /** The section of the runbook: a text or an address; empty where all is well. */
  runbook: string;
  /** Further things that are not well. */
  more: number;
};

const page = (name: string) => `/runbook/${name}.md`;

/** The heaviest of what is open or broken: critical alerts, services, faults, warnings, no model. */
export function verdictOf(overview: Overview, open: Alert[]): Verdict {
  const { snapshot } = overview;
  const found: Omit<Verdict, 'more'>[] = [];
  const alerts = [...open].sort((a, b) => a.opened_at - b.opened_at);
  const spoken = (alert: Alert) => ({
    text: `${capital(words(alert.rule))}: ${alert.summary}`,
    runbook: alert.runbook,
  });
  for (const alert of alerts.filter((each) => each.severity === 'critical')) {
    found.push({ level: 'bad', ...spoken(alert) });
  }
  const told = new Set(alerts.map((alert) => alert.rule));
  for (const service of snapshot.services) {
    if (told.has('service_down') || service.state === 'ready' || service.state === 'asleep') continue;
    const why = service.state === 'away' ? 'does not answer' : `waits for ${service.down?.join(', ')}`;
    found.push({ level: 'bad', text: `${capital(service.name)} ${why}`, runbook: page('service_down') });
  }
  if (!told.has('data_fault')) {
    for (const fault of snapshot.drift.faults.faults ?? []) {
      found.push({ level: 'bad', text: `Data fault, ${words(fault.measure)}: ${fault.why}`, runbook: page('data_fault') });
    }
  }
  for (const alert of alerts.filter((each) => each.severity !== 'critical')) {
    found.push({ level: 'warn', ...spoken(alert) });
  }
  if (snapshot.training.reached && !snapshot.training.champion && !told.has('no_champion')) {
    found.push({ level: 'warn', text: 'No model is in service; lists have similar or trending items', runbook: page('no_champion') });
  }
  const heaviest = found[0];
  if (heaviest) return { ...heaviest, more: found.length - 1 };
  const ready = snapshot.services.length;
  const model = snapshot.training.champion?.model.version;
  const parts = [`${ready} services answer`];
  if (model) parts.push(`version ${model} serves`);
  const delay = snapshot.freshness.delay_ms;
  if (delay !== null) parts.push(delay > 0 ? `features are ${duration(delay)} behind` : 'features keep up');
  const last = parts.pop()!;
  const sentence = parts.length ? `${parts.join(', ')} and ${last}` : last;
  return { level: 'good', text: `All is well: ${sentence}`, runbook: '', more: 0 };
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
