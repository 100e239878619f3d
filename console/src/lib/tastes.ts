/** Visitors of plainly different taste, chosen from those who were active last. */

export type Taste = { id: string; /** Shares of categories. */ shares: Record<string, number> };
export type Contrasting = { id: string; /** What this visitor likes more than the others do. */ likes: string[] };

/** A share by which a taste must exceed the average to be named. */
const NAMED = 0.02;

/**
 * Choose `count` visitors with the most different tastes; the same visitors give the same choice.
 *
 * A taste is the share of each category less its average. The first visitor has the longest such
 * vector, and each next one is the farthest from the nearest of those chosen.
 */
export function contrasting(tastes: Taste[], count: number): Contrasting[] {
  const categories = [...new Set(tastes.flatMap((taste) => Object.keys(taste.shares)))].sort();
  const sorted = [...tastes].sort((a, b) => (a.id < b.id ? -1 : 1));
  const mean = categories.map((name) => sorted.reduce((sum, taste) => sum + (taste.shares[name] ?? 0), 0) / sorted.length);
  const vectors = sorted.map((taste) => categories.map((name, at) => (taste.shares[name] ?? 0) - mean[at]!));
  const distance = (a: number[], b: number[] | null) => Math.hypot(...a.map((value, at) => value - (b?.[at] ?? 0)));

  const chosen: number[] = [];
  while (chosen.length < Math.min(count, sorted.length)) {
    const far = vectors.map((vector, at) =>
      chosen.includes(at) ? -1 : Math.min(...(chosen.length ? chosen.map((other) => distance(vector, vectors[other]!)) : [distance(vector, null)])),
    );
    chosen.push(far.indexOf(Math.max(...far)));
  }
  return chosen.map((at) => ({
    id: sorted[at]!.id,
    likes: categories
      .map((name, place) => ({ name, more: vectors[at]![place]! }))
      .filter((each) => each.more > NAMED)
      .sort((a, b) => b.more - a.more)
      .slice(0, 3)
      .map((each) => each.name),
  }));
}
