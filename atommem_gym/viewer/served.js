// Where the data come from: the server of this page, which runs on this machine; it is asked for what is looked at.

async function bytesOf(name) {
  const response = await fetch(name).catch(() => {
    throw new Error("the command `atommem view --serve` no longer runs; start it again");
  });
  if (!response.ok) throw new Error(await response.text());
  const bytes = new Uint8Array(await response.arrayBuffer());
  work.bytes += bytes.length;
  return bytes;
}
