// SPDX-License-Identifier: Apache-2.0

import PAFTFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Whether an adapter stands beside the model it was trained on. Another model of the same shape
/// takes it without complaint and answers nonsense.
package enum AdapterBase {
  /// A line for people when the adapter names another model folder of this machine; nil when it names
  /// this one, or one that is not here (a hub's name, a folder of the machine it was trained on).
  package static func warning(adapter: String?, model: String) -> String? {
    guard let adapter,
      let config = try? JSON.read(path: adapter + "/adapter_config.json"),
      let base = config["base_model_name_or_path"]?.string,
      FileSystem.isFile(base + "/config.json"), let named = resolved(base),
      let given = resolved(model), named != given
    else { return nil }
    return "the adapter was trained on \(named), not on \(given)"
  }

  private static func resolved(_ path: String) -> String? {
    guard let raw = realpath(path, nil) else { return nil }
    defer { free(raw) }
    return String(cString: raw)
  }
}
