/** Pictures and titles of items that have none: drawn from category, brand and colour. */

import type { Attributes } from './types';

/** FNV-1a of a text, 32 bits. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  // Its low bits follow the last character alone; mixed, all bits follow all of them.
  value = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d) >>> 0;
  return (value ^ (value >>> 13)) >>> 0;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '';
}

/** The item's title; its id where it has none. */
export function titleOf(id: string, attributes: Attributes | null | undefined): string {
  return text(attributes?.title) || text(attributes?.name) || id;
}

/** All categories of an item, the first one first. */
export function categoriesOf(attributes: Attributes | null | undefined): string[] {
  const one = text(attributes?.category);
  const all = Array.isArray(attributes?.categories) ? attributes.categories.map(text).filter(Boolean) : [];
  return one && !all.includes(one) ? [one, ...all] : all.length ? all : text(attributes?.categories) ? [text(attributes?.categories)] : [];
}

/** A price with its currency, if there is one; empty without a price. */
export function priceOf(attributes: Attributes | null | undefined): string {
  const price = attributes?.price;
  if (typeof price !== 'number') return '';
  const currency = text(attributes?.currency);
  try {
    if (currency) return new Intl.NumberFormat('en', { style: 'currency', currency }).format(price);
  } catch {
    // A currency that the browser does not know.
  }
  return price.toFixed(2);
}

/** Categories of garments. A title is not looked at: a “polo bowl” is none. */
const GARMENTS: [RegExp, Shape][] = [
  [/hoodie/i, 'hoodie'],
  [/t-?shirts?\b|shirt|blouse|\btops?\b|polo|tunic|pyjama/i, 'shirt'],
  [/\bvests?\b/i, 'vest'],
  [/coat|parka|robe/i, 'coat'],
  [/sweater|jumper\b|pullover|knit|cardigan|jacket|blazer|\bsuits?\b/i, 'jacket'],
  [/shorts/i, 'shorts'],
  [/trouser|jean|pants|chino|legging|jumpsuit/i, 'trousers'],
  [/dress\b|dresses|gown/i, 'dress'],
  [/skirt/i, 'skirt'],
  [/shoe|sneaker|boots?\b|sandal|trainer/i, 'shoe'],
  [/\bbags?\b|backpack|tote/i, 'bag'],
  [/\bhats?\b|\bcaps?\b|beanie/i, 'hat'],
  [/sock|scarf|glove/i, 'scarf'],
];
const PATTERNS = ['sun', 'stripes', 'rings', 'hills', 'arches', 'dots', 'petals', 'steps'] as const;
export type Shape =
  | (typeof PATTERNS)[number]
  | 'shirt' | 'hoodie' | 'vest' | 'jacket' | 'coat' | 'trousers' | 'shorts' | 'dress' | 'skirt' | 'shoe' | 'bag' | 'hat' | 'scarf'; // prettier-ignore

/** Colours by name, as hue, saturation and lightness: those that catalogues name most. */
const COLOURS: Record<string, [number, number, number]> = {
  black: [220, 8, 24], white: [50, 20, 96], grey: [210, 6, 58], gray: [210, 6, 58], silver: [210, 10, 74],
  navy: [222, 50, 30], blue: [214, 66, 50], teal: [178, 54, 36], green: [140, 42, 40], olive: [66, 36, 36],
  khaki: [48, 32, 58], yellow: [46, 88, 60], gold: [43, 70, 52], orange: [26, 84, 56], rust: [16, 60, 44],
  red: [4, 68, 50], burgundy: [344, 52, 32], pink: [340, 66, 74], purple: [276, 42, 48], violet: [266, 46, 54],
  lilac: [276, 42, 76], brown: [26, 38, 34], tan: [32, 42, 64], beige: [38, 36, 80], cream: [44, 50, 90],
  sand: [38, 36, 72], charcoal: [215, 10, 30], mint: [156, 44, 74], turquoise: [176, 58, 50], coral: [12, 78, 66],
}; // prettier-ignore

export type Tile = {
  shape: Shape;
  garment: boolean;
  /** Colours: the ground, its darker part, the shape, and a light one on it. */
  ground: string;
  deep: string;
  ink: string;
  light: string;
  /** From 0 to 1, different for each item: what moves and turns its pattern. */
  turn: number;
  letters: string;
};

/** What the tile of an item is drawn from. Equal items have equal tiles; a category shares its hue. */
export function tileOf(id: string, attributes: Attributes | null | undefined): Tile {
  const categories = categoriesOf(attributes);
  const category = categories[0] ?? '';
  const brand = text(attributes?.brand);
  const garment = GARMENTS.find(([words]) => categories.some((name) => words.test(name)))?.[1];
  const hue = (hash(category || id) % 24) * 15;
  // Neighbouring and opposite hues: others quarrel.
  const second = brand ? hash(brand) % 360 : (hue + [320, 30, 45, 190, 160][hash(categories[1] ?? id) % 5]!) % 360;
  const colour = COLOURS[text(attributes?.color || attributes?.colour).toLowerCase()];
  const lightness = 34 + (hash(id) % 5) * 3;
  const title = titleOf(id, attributes);
  const letters = title
    .split(/[\s:,()]+/)
    .filter((word) => /^[\p{L}\p{N}]/u.test(word) && !/^(the|a|an|of|and)$/i.test(word))
    .slice(0, 2)
    .map((word) => [...word][0]!.toUpperCase())
    .join('');
  const common = { turn: (hash(id + '/') % 1000) / 1000, letters };
  if (garment) {
    const [h, s, l] = colour ?? [hue, 45, lightness];
    const ground = `hsl(${(h + 180 + (second % 40)) % 360} 22% 91%)`;
    return { ...common, shape: garment, garment: true, ground, deep: `hsl(${h} 16% 84%)`, ink: hsl(h, s, l), light: hsl(h, s, Math.min(98, l + 12)) };
  }
  const [h, s, l] = colour ?? [(hue + (hash(`${id}.`) % 18) + 351) % 360, 38, lightness];
  return {
    ...common,
    shape: PATTERNS[hash([...categories.slice(0, 2), brand].join() || id) % PATTERNS.length]!,
    garment: false,
    ground: hsl(h, s, l),
    deep: hsl(h, s, Math.max(12, l - 11)),
    ink: hsl(second, 52, 68),
    light: hsl(second, 45, 92),
  };
}

function hsl(h: number, s: number, l: number): string {
  return `hsl(${Math.round(h)} ${s}% ${l}%)`;
}
