// Where the data come from: they stand in the page itself, as base64.

async function bytesOf(name) {
  const bytes = Uint8Array.from(atob(byId(name).textContent), (sign) => sign.charCodeAt(0));
  work.bytes += bytes.length;
  return bytes;
}
