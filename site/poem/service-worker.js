// Keeps every file of the page, so that the next visit needs no network. scripts/build_poem_page.py fills in VERSION,
// a sum of all files: a new version of the page has a new store, and the old one is deleted.

const VERSION = "development";
// What the page fetches before this worker is in control.
const MODULES = ["app.js", "generation.js", "prosody.js", "sampling.js", "sentences.js"];
const TABLES = ["model/instructions.json", "model/prosody.json", "model/simplified.json"];
const FIRST = ["./", "style.css", ...MODULES, ...TABLES];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  const fresh = FIRST.map((path) => new Request(path, { cache: "no-cache" }));
  event.waitUntil(caches.open(VERSION).then((store) => store.addAll(fresh)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const old = (await caches.keys()).filter((name) => name !== VERSION);
      await Promise.all(old.map((name) => caches.delete(name)));
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && new URL(event.request.url).origin === location.origin) {
    event.respondWith(kept(event));
  }
});

// The file from the store, or from the network, which then goes into the store.
async function kept(event) {
  const store = await caches.open(VERSION);
  const found = await store.match(event.request, { ignoreSearch: true });
  if (found) return found;
  const response = await fetch(event.request, { cache: "no-cache" }); // ask the server: the browser may have an old one
  if (response.ok) event.waitUntil(store.put(event.request, response.clone()));
  return response;
}
