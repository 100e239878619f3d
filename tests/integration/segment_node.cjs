// Every call of the unmodified @segment/analytics-node: node segment_node.cjs FOLDER_WITH_NODE_MODULES HOST WRITE_KEY
const { createRequire } = require('node:module');
const [folder, host, writeKey] = process.argv.slice(2);
const { Analytics } = createRequire(folder + '/')('@segment/analytics-node');

const analytics = new Analytics({ writeKey, host, flushAt: 20 });
const failures = [];
analytics.on('error', (error) => failures.push(error));
let answered = 0;
analytics.on('http_request', ({ url }) => console.log('request', new URL(url).pathname));
const done = (error) => (error ? failures.push(error) : (answered += 1));

analytics.track({ anonymousId: 'device', event: 'Product Viewed', properties: { product_id: 'kettle', price: 19.9 } }, done);
analytics.identify({ anonymousId: 'device', userId: 'ada', traits: { country: 'NZ' } }, done);
analytics.page({ userId: 'ada', name: 'Kettles', properties: { path: '/kettles' } }, done);
analytics.screen({ userId: 'ada', name: 'Basket' }, done);
analytics.group({ userId: 'ada', groupId: 'club', traits: { tier: 'gold' } }, done);
analytics.alias({ userId: 'ada', previousId: 'ada@example.org' }, done);
const products = [{ product_id: 'kettle', price: 19.9, quantity: 2 }, { sku: 'cup', price: 4 }];
analytics.track({ userId: 'ada', event: 'Order Completed', timestamp: new Date(Date.now() - 60_000), properties: { order_id: 'o-1', products } }, done);

analytics.closeAndFlush({ timeout: 20_000 }).then(() => {
  failures.forEach((failure) => console.error(failure));
  console.log('answered', answered);
  process.exit(failures.length ? 1 : 0);
});
