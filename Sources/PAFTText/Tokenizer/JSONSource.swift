// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// Parses a whole file; every error is a fault that names it.
func parseJSON(_ bytes: [UInt8], source: String) throws(Fault) -> JSON {
  do {
    return try JSON.parse(bytes, source: source)
  } catch {
    throw Fault(error.exitCode, error.message, hint: error.hint)
  }
}
