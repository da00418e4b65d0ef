// SPDX-License-Identifier: Apache-2.0

import PAFTFormats

/// JSON for what the command makes up itself.
package enum JSONText {
  /// One line: an object of strings.
  package static func object(_ fields: [(name: String, value: String)]) -> String {
    var object = JSONObject()
    for (name, value) in fields { object[name] = .string(value) }
    return JSON.object(object).serialized()
  }
}
