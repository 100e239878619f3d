/** The address of the page as state: screens are addresses, which survive a reload. */

export type Place = { screen: string; id: string; params: URLSearchParams };

export const SCREENS = ['', 'flow', 'live', 'visitors', 'items', 'shop'] as const;

/** The screen, the id and the parameters of an address. An unknown screen stays as it is named. */
export function placeOf(url: URL): Place {
  const path = url.pathname.replace(/^\/+/, '');
  const slash = path.indexOf('/');
  const screen = slash < 0 ? path : path.slice(0, slash);
  let id = slash < 0 ? '' : path.slice(slash + 1);
  try {
    id = decodeURIComponent(id);
  } catch {
    // An address that somebody typed: its percent signs are part of the id.
  }
  return { screen, id, params: url.searchParams };
}

export const route = $state<{ place: Place }>({ place: placeOf(new URL(location.href)) });

function arrive(): void {
  route.place = placeOf(new URL(location.href));
}

/** Go to an address of the console. `replace` leaves no entry in the history. */
export function go(address: string, replace = false): void {
  if (replace) history.replaceState(null, '', address);
  else history.pushState(null, '', address);
  arrive();
  if (!replace) {
    scrollTo(0, 0);
    focusHeading(document.querySelector('main h1'), 120);
  }
}

/** Have screen readers and the keyboard begin at the new screen, once it is there. */
function focusHeading(before: Element | null, frames: number): void {
  requestAnimationFrame(() => {
    const heading = document.querySelector<HTMLElement>('main h1');
    if (heading && heading !== before) heading.focus({ preventScroll: true });
    else if (frames) focusHeading(before, frames - 1);
  });
}

/** Follow links of the console without loading the page again. */
export function followLinks(event: MouseEvent): void {
  const link = (event.target as Element).closest?.('a');
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || event.defaultPrevented || link.target || link.origin !== location.origin) return;
  const { screen } = placeOf(new URL(link.href));
  // The shop has a policy of its own, which comes with its page.
  const alone = screen === 'shop' || route.place.screen === 'shop';
  if (alone || !(SCREENS as readonly string[]).includes(screen) || link.hash) return;
  event.preventDefault();
  go(link.pathname + link.search);
}

addEventListener('popstate', arrive);
