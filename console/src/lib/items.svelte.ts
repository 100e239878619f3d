/** Attributes of items by id, asked for once: every id on a screen has its title. */

import { SvelteMap } from 'svelte/reactivity';
import { get, part, peer, Problem } from './api';
import type { Attributes, CatalogItem } from './types';

/** Ids whose attributes are kept. Beyond them the oldest are forgotten. */
const KEPT = 2000;
/** Requests under way at once: other parts of a screen ask, too. */
const AT_ONCE = 4;

const known = new SvelteMap<string, Attributes>();
const wanted = new Set<string>();
const asked = new Set<string>();

/** Keep attributes that came with a list. */
export function remember(id: string, attributes: Attributes | null | undefined): void {
  if (!attributes) return;
  known.set(id, attributes);
  for (const oldest of known.keys()) {
    if (known.size <= KEPT) break;
    known.delete(oldest);
  }
}

/** The attributes of an item, as far as they are known; asks for them. */
export function attributesOf(id: string): Attributes | undefined {
  const attributes = known.get(id);
  if (!attributes && !asked.has(id) && !wanted.has(id)) {
    wanted.add(id);
    // Not while a template is drawn.
    queueMicrotask(askNext);
  }
  return attributes;
}

function askNext(): void {
  for (const id of wanted) {
    if (asked.size >= AT_ONCE) return;
    wanted.delete(id);
    asked.add(id);
    get<CatalogItem>(peer('features', `/v1/items/${part(id)}`))
      .then(
        (item) => remember(id, item.attributes),
        // An item that is not there has no attributes. After another failure it is asked for again.
        (error) => error instanceof Problem && error.status === 404 && remember(id, {}),
      )
      .finally(() => {
        asked.delete(id);
        askNext();
      });
  }
}
