// What the dashboard knows of the API beside it: how to ask, with which token, and what was answered before.
"use strict";

// What the API has answered, by path, so that an unchanged answer need not be sent again.
const answers = new Map();

class Refused extends Error {
  constructor(reason, token) {
    super(reason);
    this.token = token;
  }
}

// Kept for the tab: it ends with it, and no request carries it unasked.
const heldToken = () => sessionStorage.getItem("token");

function holdToken(token) {
  if (token === null) sessionStorage.removeItem("token");
  else sessionStorage.setItem("token", token);
  // What the last token could see may be hidden from this one.
  answers.clear();
}

// A link may carry a token behind its #, which browsers send to nobody. Nothing else of the page may see it there, nor
// whoever is shown or sent the address later.
function takeTokenFromAddress() {
  const carried = /^#token=(.+)$/.exec(location.hash);
  if (!carried) return false;
  history.replaceState(null, "", location.pathname + location.search);
  holdToken(carried[1]);
  return true;
}

takeTokenFromAddress();

async function get(path) {
  const token = heldToken();
  // The API would say no more, and the browser's console would complain.
  if (!token) throw new Refused("A token with the scope reports:read is needed.", token);
  const known = answers.get(path);
  const headers = { Authorization: `Bearer ${token}` };
  if (known) headers["If-None-Match"] = known.etag;
  const response = await fetch(path, { headers, cache: "no-store", credentials: "omit" });
  if (response.status === 304) return known.data;
  if (response.status === 401 || response.status === 403) {
    const refusal = await response.json().catch(() => ({}));
    if (refusesToken(path, response.status, refusal)) throw new Refused(reasonOf(refusal), token);
  }
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`the API answered ${response.status}`);
  const data = await response.json();
  // What another token could see must not be shown for the one that was entered meanwhile.
  if (token === heldToken()) answers.set(path, { etag: response.headers.get("ETag"), data });
  return data;
}

// A path that API Gateway does not know is a 403 too, in words that depend on the token's form. The paths without an id
// are there, so what is refused of them is the token; of a location's only what names the token or its holder.
const refusesToken = (path, status, refusal) =>
  status === 401 || !path.startsWith("locations/") || /^(token:|User is not authorized)/.test(refusal.Message);

function reasonOf(refusal) {
  // A route names its reason. API Gateway, which refuses what is no token of ours, names none.
  const reason = refusal.Code ? String(refusal.Message).replace(/^token: /, "") : "it is not valid, or no longer";
  return `The token was refused: ${reason}.`;
}

// Only ":" needs no escape in a path among what encodeURIComponent escapes in an id.
const reportPath = id => `locations/${encodeURIComponent(id).replaceAll("%3A", ":")}/report`;

// A browser takes these for steps within the path, escaped or not, and asks for another one.
const hasReportPath = id => id !== "." && id !== "..";
