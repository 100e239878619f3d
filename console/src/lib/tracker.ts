/**
 * The tracker, which sends to ingestion as any shop's page does (docs/tracker.md). It is a part of
 * the console's build, so that the policy of the shop allows scripts of its own origin alone.
 */

import script from '../../../services/ingestion/slipstream.js?url';

export type Tracker = {
  anonymousId: () => string | null;
  track: (event: string, properties: Record<string, unknown>) => void;
  page: (name: string) => void;
  flush: () => void;
  reset: () => void;
};

declare global {
  interface Window {
    slipstream?: Tracker | unknown[][];
  }
}

/** The tracker, once it is there. */
export function loadTracker(ingestion: string, key: string): Promise<Tracker> {
  window.slipstream ??= [
    ['load', { writeKey: key, host: ingestion, honourPrivacySignals: false }],
    ['page', 'Shop'],
  ];
  return new Promise((resolve, reject) => {
    const element = document.createElement('script');
    element.src = script;
    element.onload = () => resolve(window.slipstream as Tracker);
    element.onerror = () => reject(new Error('The tracker can’t be loaded: nothing that you do here counts'));
    document.head.append(element);
  });
}
