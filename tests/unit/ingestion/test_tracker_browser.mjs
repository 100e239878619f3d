// As much of a browser as the tracker uses, with a clock that tests move and a network that they answer for.
import { readFileSync } from 'node:fs';
import vm from 'node:vm';

const SCRIPT = readFileSync(new URL('../../../services/ingestion/slipstream.js', import.meta.url), 'utf8');

/** What outlives a page: hand it to the next Browser to be the same visitor's. */
export class Storage {
  constructor() {
    this.entries = new Map();
    this.blocked = false;
  }
  getItem(name) {
    this.check();
    return this.entries.has(name) ? this.entries.get(name) : null;
  }
  setItem(name, value) {
    this.check();
    this.entries.set(name, String(value));
  }
  removeItem(name) {
    this.check();
    this.entries.delete(name);
  }
  check() {
    if (this.blocked) throw new Error('SecurityError');
  }
}

export class Element {
  constructor(attributes, parent = null) {
    Object.assign(this, { attributes, parent, isConnected: true });
  }
  getAttribute(name) {
    return name in this.attributes ? this.attributes[name] : null;
  }
  closest(selector) {
    const name = selector.slice(1, -1);
    return name in this.attributes ? this : this.parent && this.parent.closest(selector);
  }
}

export class Browser {
  constructor({ storage = new Storage(), cookies = new Map(), navigator = {}, now = Date.UTC(2026, 0, 1), early, secure = true } = {}) {
    Object.assign(this, { storage, cookies, now, timers: [], requests: [], beacons: [], replies: [], warnings: [] });
    this.elements = [];
    this.observed = new Set();
    const browser = this;
    const listeners = (this.listeners = {});
    const addEventListener = (name, handler) => (listeners[name] = listeners[name] || []).push(handler);

    class Clock extends Date {
      constructor(...given) {
        super(...(given.length ? given : [browser.now]));
      }
      static now() {
        return browser.now;
      }
    }
    class IntersectionObserver {
      constructor(callback, options) {
        browser.intersection = { callback, options };
      }
      observe(element) {
        if (browser.observed.has(element)) return;
        browser.observed.add(element);
        if (element.ratio !== undefined) browser.show(element, element.ratio); // a real one tells the present state, too
      }
      unobserve(element) {
        browser.observed.delete(element);
      }
      disconnect() {
        browser.observed.clear();
      }
    }
    class MutationObserver {
      constructor(callback) {
        browser.mutated = callback;
      }
      observe() {}
    }
    this.document = {
      currentScript: { src: 'https://events.example/v1/slipstream.js' },
      title: 'A shop',
      referrer: 'https://search.example/',
      visibilityState: 'visible',
      addEventListener,
      querySelectorAll: () => browser.elements,
      get cookie() {
        return [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      },
      set cookie(text) {
        const [pair, ...rest] = text.split('; ');
        const [name, value] = pair.split('=');
        if (rest.includes('max-age=0')) cookies.delete(name);
        else cookies.set(name, value);
      },
    };
    this.location = new URL('https://shop.example/kettles?page=2#top');
    const move = (_, __, to) => (this.location.href = new URL(to, this.location).href);
    let uuids = 0;
    const window = {
      document: this.document,
      location: this.location,
      navigator: { language: 'en', sendBeacon: (url, body) => this.beacon(url, body), ...navigator },
      history: { pushState: move, replaceState: move },
      localStorage: storage,
      crypto: secure ? { randomUUID: () => `id-${this.name || ''}${++uuids}` } : { getRandomValues: (bytes) => crypto.getRandomValues(bytes) },
      console: { warn: (text) => this.warnings.push(text) },
      setTimeout: (action, ms, ...given) => this.timers.push({ action: () => action(...given), at: this.now + (ms || 0) }),
      clearTimeout: (id) => id && (this.timers[id - 1].action = null),
      fetch: (url, options) => this.fetch(url, options),
      addEventListener,
      TextEncoder,
      URL,
      URLSearchParams,
      Date: Clock,
      IntersectionObserver,
      MutationObserver,
      ...(early ? { slipstream: early } : {}),
    };
    window.window = window;
    this.window = window;
    vm.runInContext(SCRIPT, vm.createContext(window));
  }

  get tracker() {
    return this.window.slipstream;
  }
  /** A tracker that is loaded and sends at once. */
  loaded(options = {}) {
    this.tracker.load({ writeKey: 'key', ...options });
    return this.tracker;
  }

  fetch(url, options) {
    this.requests.push({ url, options, ...JSON.parse(options.body || '{"batch":[]}') });
    const { status = 200, retryAfter = null, unreachable = false, results, list } = this.replies.shift() || {};
    if (unreachable) return Promise.reject(new TypeError('Failed to fetch'));
    const body = list || (results && { results });
    const json = () => (body ? Promise.resolve(body) : Promise.reject(new SyntaxError('no JSON')));
    return Promise.resolve({ status, ok: status < 400, json, headers: { get: (name) => (name === 'Retry-After' ? retryAfter : null) } });
  }
  beacon(url, body) {
    if (this.refusesBeacons) return false;
    this.beacons.push({ url, type: typeof body, ...JSON.parse(body) });
    return true;
  }
  get sent() {
    return this.requests.flatMap((request) => request.batch);
  }

  /** Let time pass, running what falls due in its order. */
  async pass(ms) {
    const until = this.now + ms;
    for (;;) {
      await new Promise(setImmediate);
      const due = this.timers.filter((timer) => timer.action && timer.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.now = Math.max(this.now, due.at);
      const { action } = due;
      due.action = null;
      action();
    }
    this.now = until;
  }

  tell(name, event = {}) {
    (this.listeners[name] || []).forEach((handler) => handler({ type: name, ...event }));
  }
  hide() {
    this.document.visibilityState = 'hidden';
    this.tell('visibilitychange');
    this.tell('pagehide');
  }
  add(attributes, parent) {
    const named = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`data-slipstream-${name}`, value]));
    const element = new Element(named, parent);
    if ('item' in attributes) this.elements.push(element);
    if (this.mutated) this.mutated([{ type: 'childList' }]);
    return element;
  }
  /** Set the share of the element that is in view now. */
  show(element, ratio = 1) {
    element.ratio = ratio;
    if (this.observed.has(element)) this.intersection.callback([{ target: element, isIntersecting: ratio > 0, intersectionRatio: ratio }]);
  }
}
