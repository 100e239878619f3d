/** The tracker of ingestion, loaded as any shop's page loads it (docs/tracker.md). */

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

/** The tracker, once it is there. Rejects where ingestion can't be reached. */
export function loadTracker(ingestion: string, key: string): Promise<Tracker> {
  window.slipstream ??= [
    ['load', { writeKey: key, host: ingestion, honourPrivacySignals: false }],
    ['page', 'Shop'],
  ];
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = `${ingestion}/v1/slipstream.js`;
    script.onload = () => resolve(window.slipstream as Tracker);
    script.onerror = () => reject(new Error(`The tracker can’t be loaded from ${ingestion}: nothing that you do here counts`));
    document.head.append(script);
  });
}
