import { svelte } from '@sveltejs/vite-plugin-svelte';
import { loadEnv } from 'vite';
import { defineConfig } from 'vitest/config';

export default defineConfig(({ mode }) => ({
  plugins: [svelte()],
  build: {
    outDir: '../services/monitoring/static',
    emptyOutDir: true,
    target: 'es2022',
    // A data: URL in a style is a font or picture that the policy of the pages refuses.
    assetsInlineLimit: 0,
    // Its polyfill is for browsers that are older than the target.
    modulePreload: { polyfill: false },
  },
  server: {
    // Where `npm run dev` finds monitoring.
    proxy: { '/v1': loadEnv(mode, '.', 'SLIPSTREAM_').SLIPSTREAM_MONITORING_URL ?? 'http://127.0.0.1:8005' },
  },
  test: { include: ['tests/**/*.test.ts'] },
}));
