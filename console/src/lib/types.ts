/** Names for the bodies of the services, whose types openapi-typescript writes into `src/api`. */

import type { components as Features } from '../api/features';
import type { components as Monitoring } from '../api/monitoring';
import type { components as Serving } from '../api/serving';

type M = Monitoring['schemas'];
export type Overview = M['Overview'];
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
export type Session = M['SessionBody'];
export type Installation = M['ConsoleBody'];
export type Flow = M['Flow'];
export type FlowNode = M['FlowNode'];
export type FlowEdge = M['FlowEdge'];
export type SeenSlate = M['SeenSlate'];

type F = Features['schemas'];
export type EntityFeatures = F['EntityFeatures'];
export type DeclaredViewPage = F['DeclaredViewPage'];
export type DeclaredView = F['DeclaredView'];
export type CatalogItem = F['CatalogItem'];
export type ItemPage = F['ItemPage'];
export type ActiveVisitors = F['ActiveVisitors'];

type S = Serving['schemas'];
export type Answer = S['RecommendationResponse'];
export type AudienceResponse = S['AudienceResponse'];
export type Preview = S['PreviewResponse'];
export type Stage = S['PreviewStage'];
export type FoundItem = S['FoundItem'];

export type Attributes = Record<string, unknown>;
