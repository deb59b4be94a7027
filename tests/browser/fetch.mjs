// Fetches what package-lock.json names, checks it against the digest there, and unpacks it: what `npm ci` does, without npm, which
// takes Debian some hundred packages.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

const HERE = new URL("./", import.meta.url).pathname;
const { packages } = JSON.parse(readFileSync(`${HERE}package-lock.json`));

for (const [path, { version, integrity }] of Object.entries(packages)) {
  if (path === "") continue;
  const name = path.replace("node_modules/", "");
  const place = HERE + path;
  if (existsSync(place) && JSON.parse(readFileSync(`${place}/package.json`)).version === version) continue;
  const url = `https://registry.npmjs.org/${name}/-/${name}-${version}.tgz`;
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  const bytes = Buffer.from(await answer.arrayBuffer());
  const digest = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
  if (digest !== integrity) throw new Error(`${url} is not what package-lock.json names: ${digest}`);
  mkdirSync(`${HERE}node_modules`, { recursive: true });
  rmSync(place, { recursive: true, force: true });
  const half = `${place}.tgz`;
  writeFileSync(half, bytes);
  mkdirSync(`${place}.part`, { recursive: true });
  execFileSync("tar", ["-xzf", half, "-C", `${place}.part`, "--strip-components=1"]);
  renameSync(`${place}.part`, place);
  rmSync(half);
}
