import { expect, test } from 'vitest';
import { eventCommand, listCommand, session } from '../src/lib/session.svelte';
import type { Session } from '../src/lib/types';

const addresses = { ingestion: 'http://127.0.0.1:41001', serving: 'http://127.0.0.1:46185' };

test('commands name the real address, and a credential where one is needed', () => {
  session.now = { needed: false, addresses } as unknown as Session;
  expect(listCommand('a/b')).toBe(`curl 'http://127.0.0.1:46185/v1/recommendations/a%2Fb?n=5'`);
  expect(eventCommand('ada')).toContain('curl -u dev: http://127.0.0.1:41001/v1/track ');
  session.now = { needed: true, addresses } as unknown as Session;
  expect(listCommand('ada')).toContain('-H "Authorization: Bearer $SLIPSTREAM_HTTP__API_TOKEN" ');
});
