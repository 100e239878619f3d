/** The session of the browser, and what pages may know of this installation. */

import { get, onSignInNeeded, part, post, remove } from './api';
import type { Installation, Session } from './types';

export const session = $state<{ now: Session | null; ask: boolean; installation: Installation | null }>({
  now: null,
  ask: false,
  installation: null,
});

onSignInNeeded(() => {
  session.ask = true;
});

/** Ask monitoring whether this browser has to sign in. Throws a `Problem` where it can't be reached. */
export async function begin(): Promise<void> {
  session.now = await get<Session>('/v1/session');
  session.ask = session.now.needed && !session.now.signed_in;
  session.installation = await get<Installation>('/v1/console').catch(() => null);
}

export async function signIn(credential: string): Promise<void> {
  session.now = await post<Session>('/v1/session', { credential });
  session.ask = false;
}

export async function signOut(): Promise<void> {
  await remove('/v1/session');
  session.now = await get<Session>('/v1/session');
  session.ask = session.now.needed;
}

/** Whether this browser may read records and lists of visitors. */
export function mayOperate(): boolean {
  return !session.now?.needed || session.now.scopes.includes('operate') || session.now.scopes.includes('admin');
}

/** A first list of this visitor as a command, by the address and the credential that serving needs here. */
export function listCommand(visitor: string): string {
  const token = session.now?.needed ? '-H "Authorization: Bearer $SLIPSTREAM_HTTP__API_TOKEN" ' : '';
  return `curl ${token}'${session.now?.addresses.serving}/v1/recommendations/${part(visitor)}?n=5'`;
}

/** A first event of this visitor as a command. */
export function eventCommand(visitor: string): string {
  const event = { userId: visitor.slice(0, 40), event: 'Product Viewed', properties: { product_id: 'ITEM' } };
  const key = session.now?.needed ? 'WRITE_KEY' : 'dev';
  return `curl -u ${key}: ${session.now?.addresses.ingestion}/v1/track -H 'content-type: application/json' -d '${JSON.stringify(event)}'`;
}
