// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats

/// `paft knobs`: the environment variables that are read.
package enum KnobsVerb {
  package static func run() -> (text: String, json: String) {
    var table = TextTable(["variable", "meaning"])
    for knob in Knobs.all { table.add([knob.name, knob.meaning]) }
    let rows: [JSON] = Knobs.all.map {
      ["name": .string($0.name), "meaning": .string($0.meaning)]
    }
    return (table.text, JSON.array(rows).serialized(pretty: true))
  }
}

/// `paft keys`: what a recipe may say, with defaults.
package enum KeysVerb {
  package static func run() -> (text: String, json: String) {
    var text = ""
    var rows: [JSON] = []
    for section in RecipeSection.all {
      var table = TextTable(["key", "default", "meaning"])
      for key in section.keys {
        table.add(["  " + key.name, key.standard ?? "-", key.meaning])
        rows.append([
          "section": .string(section.name), "key": .string(key.name),
          "default": JSON(optional: key.standard), "meaning": .string(key.meaning),
          "aliases": .array(key.aliases.map { .string($0) }),
        ])
      }
      let title = section.name.isEmpty ? section.meaning : "\(section.name): \(section.meaning)"
      text += (text.isEmpty ? "" : "\n") + title + "\n" + table.text
    }
    return (text, JSON.array(rows).serialized(pretty: true))
  }
}
