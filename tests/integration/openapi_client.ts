// Types that openapi-typescript made, with openapi-fetch, against a shop: `node client.js SHOP`.
// SHOP is JSON with the services' addresses, a write key and a token. The compiler checks every
// field that is read here.
import createClient from "openapi-fetch";

import type { paths as Features } from "./features.js";
import type { paths as Ingestion } from "./ingestion.js";
import type { operations, paths as Serving } from "./serving.js";

declare const process: { argv: string[] };

const shop = JSON.parse(process.argv[2]!) as Record<string, string>;
const bearer = { Authorization: `Bearer ${shop.token}` };
const ingestion = createClient<Ingestion>({
  baseUrl: shop.ingestion,
  headers: { Authorization: `Basic ${btoa(shop.write_key + ":")}` },
});
const features = createClient<Features>({ baseUrl: shop.features, headers: bearer });
const serving = createClient<Serving>({ baseUrl: shop.serving, headers: bearer });

function sure<T>(value: T | undefined, why: unknown): T {
  if (value === undefined) throw new Error(JSON.stringify(why));
  return value;
}
function check(truth: boolean, what: unknown): void {
  if (!truth) throw new Error(JSON.stringify(what));
}

const tracked = await ingestion.POST("/v1/track", {
  body: { event: "view", userId: "gen", properties: { item_id: "item-03" } },
});
const [verdict] = sure(tracked.data, tracked.error).results;
check(verdict?.status === "accepted", verdict);

const visitor = { view: "visitor", entity_id: "gen" } as const;
let found = await features.GET("/v1/features/{view}/{entity_id}", { params: { path: visitor } });
for (const until = Date.now() + 60_000; found.data === undefined; ) {
  check(Date.now() < until, "the event did not arrive");
  await new Promise((resolve) => setTimeout(resolve, 50));
  found = await features.GET("/v1/features/{view}/{entity_id}", { params: { path: visitor } });
}
const views: number | undefined = found.data.counts.view;
check(views === 1 && found.data.sequence?.[0]?.item_id === "item-03", found.data);
const pair = await features.GET("/v1/features/request", {
  params: { query: { user_id: "gen", item_id: "item-03" } },
});
check(sure(pair.data, pair.error).features.item_events === 1, pair.data);

const slate = await serving.GET("/v1/recommendations/{user_id}", {
  params: { path: { user_id: "gen" }, query: { n: 3 } },
});
const best: string[] = sure(slate.data, slate.error).items.map((item) => item.item_id);
check(best.length === 3, slate.data);
const present = await serving.GET("/v1/model");
check(sure(present.data, present.error).version === slate.data?.model_version, present.data);

type Inference = operations["infer"]["requestBody"]["content"]["application/json"];
const body: Inference = {
  id: "",
  inputs: [{ name: "user_id", shape: [1], datatype: "BYTES", data: ["gen"] }],
};
const answer = await serving.POST("/v2/models/{name}/infer", {
  params: { path: { name: "recommender" } },
  body,
});
check(sure(answer.data, answer.error).outputs[0]?.data?.length === 10, answer.data);
