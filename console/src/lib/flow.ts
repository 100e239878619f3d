/** The places of services, topics and stores in the picture of the flow, and how its edges look. */

import { duration, number, rate } from './format';
import type { Flow, FlowEdge } from './types';

export type Level = 'quiet' | 'good' | 'warn' | 'bad';

/** Topics that carry settings and keys to all services: their edges would cover the way of the data. */
const CONTROL = new Set(['access-keys.v1', 'access-key-uses.v1', 'placements.v1', 'experiments.v1', 'erased-visitors.v1']);
/** Columns of services; a topic stands behind its first producer. */
const COLUMNS: Record<string, number> = { ingestion: 0, features: 2, training: 4, serving: 4, monitoring: 6 };
const STORES_COLUMN = 3;
const WIDTH = 182;
const HEIGHT = 104;

/** Records a second below which an edge that is not late needs no words. */
const WORDLESS = 1;

/** Records that wait, and their age in ms, from which an edge is late or far too late. */
const LATE = { lag: 1000, delay: 10_000 };
const TOO_LATE = { lag: 10_000, delay: 60_000 };

export function isControl(name: string): boolean {
  return CONTROL.has(name);
}

/** The nodes and edges that are drawn. */
export function shown(flow: Flow, control: boolean): Flow {
  const nodes = flow.nodes.filter((node) => control || !isControl(node.name));
  const names = new Set(nodes.map((node) => node.name));
  return { ...flow, nodes, edges: flow.edges.filter((edge) => names.has(edge.source) && names.has(edge.target)) };
}

/** The place of each node: services and their topics from left to right, those of a column below each other. */
export function places(flow: Flow): Map<string, { x: number; y: number }> {
  const columns = new Map<number, string[]>();
  for (const node of flow.nodes) {
    let column = STORES_COLUMN;
    if (node.kind === 'service') column = COLUMNS[node.name] ?? 6;
    if (node.kind === 'topic') {
      const producer = flow.edges.find((edge) => edge.target === node.name)?.source;
      // What monitoring tells goes back: it stands with the topics that lead there.
      column = Math.min((COLUMNS[producer ?? ''] ?? 0) + 1, COLUMNS.monitoring! - 1);
    }
    columns.set(column, [...(columns.get(column) ?? []), node.name]);
  }
  const highest = Math.max(...[...columns.values()].map((names) => names.length));
  const found = new Map<string, { x: number; y: number }>();
  for (const [column, names] of columns) {
    const top = ((highest - names.length) * HEIGHT) / 2;
    names.forEach((name, row) => found.set(name, { x: column * WIDTH, y: top + row * HEIGHT }));
  }
  return found;
}

export function levelOf(edge: FlowEdge): Level {
  if ((edge.drops ?? 0) > 0 || (edge.lag ?? 0) >= TOO_LATE.lag || (edge.delay_ms ?? 0) >= TOO_LATE.delay) return 'bad';
  if ((edge.lag ?? 0) >= LATE.lag || (edge.delay_ms ?? 0) >= LATE.delay) return 'warn';
  return (edge.rate ?? 0) > 0 ? 'good' : 'quiet';
}

/** The width of an edge in pixels: thrice as many for each thousandfold of its rate. */
export function widthOf(edge: FlowEdge): number {
  return Math.round(10 * Math.min(11, 1.2 + 2.2 * Math.log10(1 + (edge.rate ?? 0)))) / 10;
}

/** Whether the picture says what an edge says: small ones would cover it with words. */
export function speaks(edge: FlowEdge): boolean {
  const level = levelOf(edge);
  return level === 'warn' || level === 'bad' || (edge.rate ?? 0) >= WORDLESS;
}

/** What an edge says: its rate, and lag, delay and drops where there are some. */
export function labelOf(edge: FlowEdge): string {
  const parts = edge.rate == null ? [] : [`${rate(edge.rate)}/s`];
  if (levelOf(edge) !== 'good' && edge.lag) parts.push(`${number(edge.lag)} wait`);
  if (levelOf(edge) !== 'good' && edge.delay_ms && edge.delay_ms >= LATE.delay) parts.push(duration(edge.delay_ms));
  if (edge.drops) parts.push(`${rate(edge.drops)}/s lost`);
  return parts.join(', ');
}
