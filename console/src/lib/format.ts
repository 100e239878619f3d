/** Numbers, shares and times as people read them. */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export function number(value: number | null | undefined): string {
  if (value == null) return '–';
  // Shares that have faded for years are tiny, and would fill a hundred places.
  if (value !== 0 && Math.abs(value) < 1e-4) return value > 0 ? '<0.0001' : '>−0.0001';
  return Math.abs(value) >= 100 || Number.isInteger(value) ? whole.format(value) : small.format(value);
}

export function percent(share: number | null | undefined, digits = 1): string {
  return share == null ? '–' : `${(100 * share).toFixed(digits)} %`;
}

/** A rate per second. */
export function rate(value: number | null | undefined): string {
  if (value == null) return '–';
  if (value === 0) return '0';
  return value < 0.1 ? '<0.1' : value < 10 ? value.toFixed(1) : whole.format(value);
}

/** A duration of milliseconds. */
export function duration(ms: number | null | undefined): string {
  if (ms == null) return '–';
  if (ms < 1000) return `${Math.max(0, ms) < 10 ? Number(Math.max(0, ms).toFixed(1)) : Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h`;
  return `${whole.format(Math.round(seconds / 86_400))} days`;
}

/** How long ago, in seconds and larger units. */
export function ago(at: number, now: number): string {
  const ms = Math.max(0, now - at);
  return ms < 1000 ? 'just now' : `${duration(Math.round(ms / 1000) * 1000).replace('.0 s', ' s')} ago`;
}

const sameDay = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const sameYear = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const otherYear = new Intl.DateTimeFormat(undefined, { year: 'numeric', month: 'short', day: 'numeric' });

/** A moment: a time today, a day and time this year, a day before. */
export function moment(at: number, now = Date.now()): string {
  const [then, today] = [new Date(at), new Date(now)];
  if (then.toDateString() === today.toDateString()) return sameDay.format(then);
  return (then.getFullYear() === today.getFullYear() ? sameYear : otherYear).format(then);
}

/** `click_through_dropped` as words. */
export function words(name: string): string {
  return name.replaceAll('_', ' ');
}

const ORDINALS = ['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth', 'ninth', 'tenth'];

/** A place in a list, counted from 1. */
export function ordinal(place: number): string {
  const ending = place % 100 > 10 && place % 100 < 14 ? 'th' : (['th', 'st', 'nd', 'rd'][place % 10] ?? 'th');
  return ORDINALS[place - 1] ?? `${place}${ending}`;
}
