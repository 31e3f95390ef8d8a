/** An order somebody left in the store for the owner of a message. */
import { keys } from "../kv/keys.ts";
import { encodeRecord } from "../kv/record.ts";
import type { Mutation } from "../kv/writer.ts";
import { shardOfMessage } from "./rows.ts";

export type OrderKind = "retry" | "hold" | "release" | "cancel" | "replay" | "purge";

/** One order as it lies in the store. */
export interface Order {
  readonly kind: OrderKind;
  readonly id: string;
  /** Who gave it: a token's name, or `local`. */
  readonly by: string;
}

/** Key and value of an order; `seq` sorts by time. */
export function orderRow(order: Order, seq: string): Mutation & { value: Uint8Array } {
  return { key: keys.command(shardOfMessage(order.id), seq), value: encodeRecord(order) };
}
