/** The figures of the last minutes, one a second, of the frame's one stream. */

import { LiveStream, type Figures, type Gap } from './stream.svelte';

/** Seconds of figures that charts show. */
export const SHOWN_S = 300;

class FigureHistory {
  newest = $state.raw<Figures | null>(null);
  /** Figures in order; null stands for a gap, which charts leave open. */
  past = $state.raw<(Figures | null)[]>([]);
  gap = $state.raw<Gap | null>(null);
  stream = $state.raw<LiveStream | null>(null);

  run(): () => void {
    const stream = new LiveStream(
      {},
      {
        figures: (figures) => {
          this.newest = figures;
          this.past = [...this.past, figures].slice(-SHOWN_S);
        },
        gap: (gap) => {
          this.gap = gap;
          this.past = [...this.past, null];
        },
      },
    );
    this.stream = stream;
    const end = stream.run();
    return () => {
      end();
      this.stream = null;
    };
  }
}

export const figures = new FigureHistory();
