/** Running a topology of services as supervised processes: what a service module needs. */
export type {
  Audit,
  AuditContext,
  AuditLine,
  AuditReport,
  Service,
  ServiceContext,
} from "./service.ts";
export type { Progress } from "./protocol.ts";
