/** The platform the tests talk to: whoever runs them has started it, and says where it is. */

/** @param {string} name */
function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}: see tests/e2e/test_js_client.py`);
  return value;
}

export const endpoint = required("CLIENT_TEST_ENDPOINT");
export const token = required("CLIENT_TEST_TOKEN");

/**
 * One operation of the control plane.
 * @param {string} method
 * @param {string} path
 */
export async function control(method, path) {
  const response = await fetch(`${endpoint}${path}?api-version=v1`, {
    method,
    headers: { authorization: `Bearer ${token}` },
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
}
