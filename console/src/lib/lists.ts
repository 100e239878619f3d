/** Lists from serving, whose items' attributes are kept for titles and tiles. */

import { get, part, peer, post, query } from './api';
import { remember } from './items.svelte';
import type { Answer, FoundItem, Preview } from './types';

function remembered<T extends Answer>(answer: T): T {
  for (const item of answer.items) remember(item.item_id, item.attributes);
  return answer;
}

/** What the list is wanted for: a visitor as they are, or a history made up by hand. */
export type PreviewRequest = {
  user_id?: string;
  history?: { item_id: string; event_type?: string }[];
  placement?: string;
  about?: string;
  n?: number;
};

/** A list that nobody sees, with its reasons, rules and stages. It counts as no impression. */
export async function preview(wanted: PreviewRequest, signal?: AbortSignal): Promise<Preview> {
  const body = { n: 10, attributes: true, ...wanted };
  return remembered(await post<Preview>(peer('serving', '/v1/previews'), body, signal));
}

/** Lists of the shop, which its visitor sees: they count as shown. */
type ForVisitor = { n: number; user_id: string };

export async function similar(id: string, wanted: ForVisitor): Promise<Answer> {
  return remembered(await get<Answer>(peer('serving', `/v1/similar/${part(id)}`) + query({ ...wanted, attributes: true })));
}

export async function boughtTogether(id: string, wanted: ForVisitor): Promise<Answer> {
  return remembered(await get<Answer>(peer('serving', `/v1/bought-together/${part(id)}`) + query({ ...wanted, attributes: true })));
}

export async function trending(wanted: ForVisitor): Promise<Answer> {
  return remembered(await get<Answer>(peer('serving', '/v1/trending') + query({ ...wanted, attributes: true })));
}

export async function recentlyViewed(id: string, n: number): Promise<Answer> {
  return remembered(await get<Answer>(peer('serving', `/v1/recently-viewed/${part(id)}`) + query({ n, attributes: true })));
}

/** The list of a visitor. */
export async function recommended(id: string, n: number): Promise<Answer> {
  return remembered(await get<Answer>(peer('serving', `/v1/recommendations/${part(id)}`) + query({ n, attributes: true })));
}

/** Items by words of title, brand and category. */
export async function search(words: string, n: number, signal?: AbortSignal): Promise<FoundItem[]> {
  const found = await get<{ items: FoundItem[] }>(peer('serving', '/v1/items:search') + query({ q: words.slice(0, 200), n }), signal);
  for (const { item_id, title, category, brand, color, price } of found.items) {
    remember(item_id, Object.fromEntries(Object.entries({ title, category, brand, color, price }).filter(([, value]) => value !== null)));
  }
  return found.items;
}
