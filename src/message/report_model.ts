/** The nouns of a delivery report. */

/** What a body needs of the hosts it passes: RFC 6152, RFC 3030. */
export type BodyType = "7BIT" | "8BITMIME" | "BINARYMIME";

/** A delivery report to be rendered when it is sent (RFC 3464). */
export interface Report {
  /** Queue id of the message reported on. */
  readonly of: string;
  readonly action: "failed" | "delayed" | "delivered" | "relayed";
  readonly envid?: string;
  /** When the reported message came in. */
  readonly arrivalDate: number;
  /** Delayed: when we give up. */
  readonly willRetryUntil?: number;
  readonly returnContent: "FULL" | "HDRS";
  readonly originalSmtpUtf8: boolean;
  readonly originalBody: BodyType;
  /** Header section of the reported message, at most 16 KiB, one character a byte. */
  readonly header: string;
  readonly recipients: readonly ReportedRecipient[];
}

/** One recipient of a {@linkcode Report}. */
export interface ReportedRecipient {
  readonly address: string;
  readonly orcpt?: string;
  /** `x.y.z` */
  readonly status: string;
  /** One line: the remote's reply, or our own words. */
  readonly diagnostic: string;
  /** True when `diagnostic` is an SMTP reply of `remoteMta`. */
  readonly diagnosticIsSmtp: boolean;
  readonly remoteMta?: string;
  readonly lastAttempt: number;
}
