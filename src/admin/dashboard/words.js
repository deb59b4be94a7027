// What states, reasons and errors mean, in a sentence and with what to do.

/** States of a delivery: word and kind of colour. */
export const STATES = {
  ready: ["ready", "busy"],
  waiting: ["waiting", "warn"],
  in_flight: ["in flight", "busy"],
  delivered: ["delivered", "good"],
  dead: ["dead letter", "bad"],
  discarded: ["discarded", "off"],
};

/** Why a delivery was given up. */
export const REASONS = {
  attempts: "every attempt of its schedule failed",
  expired: "it grew older than the target's expire",
  gone: "the target answered 410 Gone",
  damaged: "the stored event cannot be read",
  refused: "the target answered with a status that it never takes this with (give_up)",
  template: "the target's template fails on this event",
};

/** How far an attempt got that had no answer. */
export const ERRORS = {
  dns: "the target's host name did not resolve: check its URL and the name server",
  connect: "no connection: nothing listens at the target's address, or a firewall drops it",
  tls: "the TLS handshake failed: check the target's certificate, or its tls settings here",
  reset: "the target closed the connection before its answer was complete",
  "timeout-head": "no answer within the target's timeout",
  "timeout-body": "the target did not take the whole request within its timeout",
  protocol: "what came back is not HTTP: check the port and the scheme of the URL",
  "too-large": "the head of the answer is larger than the limit",
  template: "nothing was sent: the target's template fails on this event",
};

const STATUSES = {
  400: "the target says the request is malformed",
  401: "the target wants another credential: check its headers here",
  403: "the target does not admit everhook: check its credential and its own rules",
  404: "the target has nothing at this path: check its URL",
  405: "the target does not take this method here: check method and URL",
  408: "the target waited too long for the request",
  409: "the target says it conflicts with what it has",
  410: "the target will never want this again; it is paused",
  413: "the body is too large for the target",
  415: "the target does not take this media type",
  422: "the target understood the request and refuses its content",
  429: "the target was asked too often; everhook slows down",
  502: "a proxy before the target could not reach it",
  503: "the target is not available now",
  504: "a proxy before the target waited for it in vain",
};

/** Why a status is no delivery. */
export function ofStatus(status) {
  if (STATUSES[status]) return STATUSES[status];
  if (status >= 500) return "the target failed on its side: its own log says why";
  if (status >= 400) return "the target refuses the request";
  if (status >= 300) return "the target redirects, which is never followed: put the new address into its URL";
  return "this is no final answer";
}

/** What an attempt came to: a short word, and the sentence. */
export function outcome(attempt) {
  if (attempt.outcome === "delivered") return [String(attempt.status), "delivered"];
  if (attempt.outcome === "interrupted") return ["interrupted", "everhook stopped before the answer came; it may have arrived"];
  if (attempt.status !== null) return [String(attempt.status), ofStatus(attempt.status)];
  return [attempt.error ?? "failed", ERRORS[attempt.error] ?? "the attempt failed"];
}

/** Why a request was refused. */
export const CAUSES = {
  unverified: "nothing proves where it came from: its signature or token does not fit the source's secret",
  malformed: "it is not what the provider sends",
  "not-allowed": "the source's where or allow_ips does not admit it",
  "media-type": "its content coding cannot be read",
  conflict: "it repeats an event by its key with another body",
};

/** How a step of a build stands: sign, kind of colour, words. */
export const STEPS = {
  came: ["✓", "good", "came"],
  believed: ["✓", "off", "came before the build was watched, it is believed"],
  late: ["…", "warn", "late: a step that follows it came"],
  missing: ["✗", "bad", "never came"],
  skipped: ["–", "off", "the provider was not asked to send it"],
  open: ["○", "off", "not yet"],
};

/** What a target's latest failure was, as the end of a sentence. */
function because({ last_failure: last }) {
  if (!last) return "";
  if (last.status !== null) return `: ${last.status}, ${ofStatus(last.status)}`;
  return last.error ? `: ${ERRORS[last.error] ?? last.error}` : "";
}

/** How a target stands: word, kind of colour, sentence. */
export function health(target) {
  if (!target.configured) return ["not configured", "warn", "It left the configuration; what waits for it is kept."];
  if (target.paused?.reason === "gone") return ["paused", "bad", "It answered 410 Gone. Resume it when it wants events again."];
  if (target.paused) return ["paused", "warn", "An operator paused it. Deliveries wait."];
  if (target.breaker === "open") return ["left alone", "bad", `It kept failing, so only a probe is sent now and then (breaker open)${because(target)}.`];
  if (target.breaker === "probing") return ["probing", "warn", "It kept failing; a probe is on its way."];
  if (target.held_until) return ["slowed down", "warn", "It asked to be left alone for a while."];
  if (target.last_failure && !(Date.parse(target.last_success_at) > Date.parse(target.last_failure.at))) {
    return ["failing", "warn", `Its latest attempt failed${because(target)}.`];
  }
  if (!target.last_success_at) return ["idle", "off", "Nothing was sent since the start."];
  return ["healthy", "good", "Its latest attempt was delivered."];
}
