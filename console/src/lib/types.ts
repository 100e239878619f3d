/** Names for the bodies of the services, whose types openapi-typescript writes into `src/api`. */

import type { components as Features } from '../api/features';
import type { components as Monitoring } from '../api/monitoring';
import type { components as Serving } from '../api/serving';

type M = Monitoring['schemas'];
export type Overview = M['Overview'];
export type ServiceState = M['ServiceState'];
export type Run = M['Run'];
export type ModelEvent = M['ModelEvent'];
export type Alert = M['AlertBody'];
export type AlertPage = M['AlertPage'];
export type QualityReport = M['QualityReport'];
export type QualityRow = M['QualityRow'];
export type RateInterval = M['RateInterval'];
export type DriftReport = M['DriftReport'];
export type DriftFigures = M['FeatureDriftFigures'];
export type TimelinePage = M['TimelinePage'];
export type TimelineEntry = M['TimelineEntry'];

type F = Features['schemas'];
export type EntityFeatures = F['EntityFeatures'];
export type DeclaredViewPage = F['DeclaredViewPage'];
export type DeclaredView = F['DeclaredView'];
export type CatalogItem = F['CatalogItem'];
export type ItemPage = F['ItemPage'];

type S = Serving['schemas'];
export type Answer = S['RecommendationResponse'];
export type AnsweredItem = S['AnsweredItem'];
export type ItemReason = S['ItemReason'];
export type AudienceResponse = S['AudienceResponse'];

export type Attributes = Record<string, unknown>;
export type RuleTrace = S['RuleTrace'];
export type Stage = { name: string; in: number | null; out: number | null; ms: number };
export type Fall = { stage: string; reason: string; detail: string };
export type Preview = Answer & {
  stages: Stage[];
  about?: { item_id: string; position: number | null; fell: Fall | null } | null;
};
export type VisitorPage = { items: { user_id: string; last_seen: number }[] };
export type SeenItem = { item_id: string; source: string | null; position: number | null; clicked_at: number | null };
export type SeenSlate = {
  recommendation_id: string;
  at: number;
  placement: string;
  model_version: string | null;
  experiment: string;
  variant: string;
  items: SeenItem[];
};
export type FoundItem = {
  item_id: string;
  title: string | null;
  category: string | null;
  brand: string | null;
  color: string | null;
  price: number | null;
  available: boolean;
};
