/** What the package promises, whatever it runs on. */

export { explain, isResumable } from "./close.js";
export { Conversation } from "./conversation.js";
export { Endpoint, newSessionId } from "./endpoint.js";
export { ClosedError, RefusedError, TrunklineError, UnreachableError } from "./errors.js";
