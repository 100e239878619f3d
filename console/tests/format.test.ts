import { expect, test } from 'vitest';

import { number } from '../src/lib/format';

test('numbers have three digits, and tiny ones are named as such', () => {
  expect([1234.5, 12, 0.25, 0.00012, 0, null].map(number)).toEqual(['1,235', '12', '0.25', '0.00012', '0', '–']);
  expect([1e-146, -1e-9].map(number)).toEqual(['<0.0001', '>−0.0001']);
});
