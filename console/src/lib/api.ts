/** Requests to monitoring, the only origin that the console speaks with. */

/** An answer that is not the one asked for. `status` is 0 where nothing answered. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

/** Called for each answer that asks for a credential; the app shows its sign-in. */
let askedToSignIn: () => void = () => {};
export function onSignInNeeded(call: () => void): void {
  askedToSignIn = call;
}

async function send<T>(path: string, options: RequestInit): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, { cache: 'no-store', credentials: 'same-origin', ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Problem(0, 'unreachable', 'Monitoring can’t be reached');
  }
  if (answer.ok) return (answer.status === 204 ? undefined : await answer.json()) as T;
  const body = await answer.json().catch(() => ({}));
  const problem = new Problem(
    answer.status,
    body.code ?? `http_${answer.status}`,
    body.detail ?? `Monitoring answered ${answer.status}`,
  );
  if (answer.status === 401 && path !== '/v1/session') askedToSignIn();
  throw problem;
}

export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return send<T>(path, { signal: signal ?? null });
}

export function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return send<T>(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });
}

export function remove(path: string): Promise<void> {
  return send<void>(path, { method: 'DELETE' });
}

/** The address at which monitoring passes a request on to another service. */
export function peer(service: 'features' | 'serving', path: string): string {
  return `/v1/peers/${service}${path}`;
}

/** An id as a part of a path. */
export const part = encodeURIComponent;

/** The query of these parameters, without those that are empty. */
export function query(parameters: Record<string, string | number | boolean | null | undefined>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== '' && value != null && value !== false);
  const text = given.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join('&');
  return text && `?${text}`;
}

/** The sentence that tells people what went wrong. */
export function told(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
