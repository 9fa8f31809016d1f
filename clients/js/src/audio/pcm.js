/** 16-bit little-endian PCM, and samples from -1 to 1. */

const HEADER_BYTES = 8;
const IS_LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Return samples as 16-bit PCM, clipped.
 * @param {Float32Array} samples
 * @returns {Int16Array<ArrayBuffer>}
 */
export function toPcm(samples) {
  const pcm = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i += 1) {
    const value = /** @type {number} */ (samples[i]);
    pcm[i] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
  }
  return pcm;
}

/**
 * Return 16-bit PCM as samples; a last half of a sample is left out.
 * @param {Uint8Array} bytes
 * @returns {Float32Array<ArrayBuffer>}
 */
export function fromPcm(bytes) {
  const samples = new Float32Array(bytes.length >> 1);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < samples.length; i += 1) samples[i] = view.getInt16(2 * i, true) / 32768;
  return samples;
}

/**
 * Return PCM's bytes as they go over the wire.
 * @param {Int16Array<ArrayBuffer>} pcm
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function bytesOf(pcm) {
  if (IS_LITTLE) return new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength);
  const bytes = new Uint8Array(pcm.length * 2);
  const view = new DataView(bytes.buffer);
  pcm.forEach((value, i) => view.setInt16(2 * i, value, true));
  return bytes;
}

/**
 * @typedef {object} Sound
 * @property {number} rate Samples a second.
 * @property {number} channels
 * @property {Uint8Array} pcm
 */

/**
 * Read a binary message: 8 bytes of header (rate and channels, little-endian) and PCM, as
 * Microsoft's hello-world sample sends, or PCM alone.
 * @param {Uint8Array} message
 * @param {number} rate What to take PCM alone for.
 * @returns {Sound}
 */
export function soundOf(message, rate) {
  if (message.length >= HEADER_BYTES) {
    const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
    const named = view.getUint32(0, true);
    const channels = view.getUint32(4, true);
    if (named >= 8000 && named <= 192_000 && channels >= 1 && channels <= 2) {
      return { rate: named, channels, pcm: message.subarray(HEADER_BYTES) };
    }
  }
  return { rate, channels: 1, pcm: message };
}

/**
 * Return one channel out of interleaved ones.
 * @param {Float32Array<ArrayBuffer>} samples
 * @param {number} channels
 * @returns {Float32Array<ArrayBuffer>}
 */
export function mono(samples, channels) {
  if (channels === 1) return samples;
  const mixed = new Float32Array(Math.floor(samples.length / channels));
  for (let i = 0; i < mixed.length; i += 1) {
    for (let c = 0; c < channels; c += 1) {
      mixed[i] = /** @type {number} */ (mixed[i]) + (samples[i * channels + c] ?? 0) / channels;
    }
  }
  return mixed;
}
