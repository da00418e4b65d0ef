// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats

/// Turns the tree of a recipe into canonical leaves ("sft.learning_rate"), whatever names and blocks
/// its author used. Unknown, doubled and foreign keys are found here.
struct RecipeFlattening {
  /// Leaves by canonical path. Paths below `shared.` hold for both branches unless they say otherwise.
  private(set) var leaves: [String: ConfigNode] = [:]
  private(set) var notices: [String] = []
  /// The spelling by which a leaf was set, to name both when it is set twice.
  private var spelling: [String: String] = [:]

  init(_ root: ConfigNode) throws {
    for entry in try entries(root) { try top(entry) }
  }

  // MARK: - Blocks

  private mutating func top(_ entry: ConfigNode.Entry) throws {
    let (word, node) = (entry.key, entry.value)
    switch word {
    case "sft", "align": try branch(word, node)
    case "adapter": try adapter("", node)
    case "merge": try merge(node)
    case "l1": try penalty("sft.", node)  // only that branch has one
    case "machine": try section(.machine, "machine.", node)
    case "eval", "evaluation": try section(.evaluation, "eval.", node)
    case "bf16":
      // TRL's switch; `auto` (axolotl) and true ask for what is the default anyway.
      let off = try RecipeValue.flagOrAuto(node) == false
      try put("dtype", "bf16", scalar(off ? "f32" : "bf16", like: node))
    case "use_peft":
      let on = try node.bool()
      try put("adapter.type", "use_peft", scalar(on ? "lora" : "full", like: node))
    default:
      if let key = RecipeSection.top.key(word) { return try put(key.name, word, node) }
      if let key = RecipeSection.adapter.key(word), word != "r", word != "alpha", word != "type" {
        return try put("adapter." + key.name, word, node)
      }
      if word == "l1_lambda" { return try put("sft.l1.lambda", word, node) }
      if let key = RecipeSection.branch.key(word) {
        return try put("shared." + key.name, word, node)
      }
      if let key = RecipeSection.preference.key(word) {
        return try put("align." + key.name, word, node)
      }
      try stranger(
        entry, block: "",
        known: ["sft", "align", "adapter", "l1", "merge", "machine", "eval"]
          + names(.top) + names(.branch) + names(.preference) + names(.adapter))
    }
  }

  private mutating func branch(_ name: String, _ node: ConfigNode) throws {
    let prefix = name + "."
    for entry in try entries(node) {
      let (word, value) = (entry.key, entry.value)
      switch word {
      case "adapter": try adapter(prefix, value)
      case "l1": try penalty(prefix, value)
      case "l1_lambda": try put(prefix + "l1.lambda", word, value)
      default:
        if let key = RecipeSection.files.key(word) ?? RecipeSection.branch.key(word) {
          try put(prefix + key.name, word, value)
        } else if let key = RecipeSection.preference.key(word), name == "align" {
          try put(prefix + key.name, word, value)
        } else if RecipeSection.preference.key(word) != nil {
          throw ConfigError(
            source: value.source, line: entry.keyLine, path: name,
            what: "no key \(quoted(word)) here, it belongs to align")
        } else {
          try stranger(
            entry, block: name,
            known: ["adapter", "l1"] + names(.files) + names(.branch)
              + (name == "align" ? names(.preference) : []))
        }
      }
    }
  }

  private mutating func adapter(_ prefix: String, _ node: ConfigNode) throws {
    if node.isScalar, !node.isNull { return try put(prefix + "adapter.type", "adapter", node) }
    try section(.adapter, prefix + "adapter.", node)
  }

  private mutating func penalty(_ prefix: String, _ node: ConfigNode) throws {
    if node.isNull || (try? node.bool()) == false {
      return try put(prefix + "l1", "l1", scalar("off", like: node))
    }
    try put(prefix + "l1", "l1", scalar("on", like: node))
    if (try? node.bool()) == true { return }
    try section(.l1, prefix + "l1.", node)
  }

  private mutating func merge(_ node: ConfigNode) throws {
    if node.isScalar, !node.isNull { return try put("merge.method", "merge", node) }
    for entry in try entries(node) {
      let (word, value) = (entry.key, entry.value)
      switch word {
      case "density": try perBranch(.density, "merge.density.", value)
      case "weights", "weight": try perBranch(.weights, "merge.weights.", value)
      default:
        if let key = RecipeSection.merge.key(word) {
          try put("merge." + key.name, word, value)
        } else {
          try stranger(
            entry, block: "merge", known: ["density", "weights"] + names(.merge))
        }
      }
    }
  }

  /// A scalar goes to both branches.
  private mutating func perBranch(
    _ section: RecipeSection, _ prefix: String, _ node: ConfigNode
  ) throws {
    guard node.isScalar, !node.isNull else { return try self.section(section, prefix, node) }
    for key in section.keys { try put(prefix + key.name, section.name, node) }
  }

  private mutating func section(
    _ section: RecipeSection, _ prefix: String, _ node: ConfigNode
  ) throws {
    let block = String(prefix.dropLast())
    for entry in try entries(node) {
      let (word, value) = (entry.key, entry.value)
      if let key = section.key(word) {
        try put(prefix + key.name, word, value)
      } else {
        try stranger(entry, block: block, known: names(section))
      }
    }
  }

  // MARK: - Parts

  /// The members of a block; none of an empty one.
  private func entries(_ node: ConfigNode) throws(ConfigError) -> [ConfigNode.Entry] {
    node.isNull ? [] : try node.entries()
  }

  private mutating func put(_ path: String, _ word: String, _ node: ConfigNode) throws {
    if let earlier = leaves[path] {
      throw ConfigError(
        source: node.source, line: node.line,
        what: "\(quoted(word)) sets \(Self.shown(path)), which \(quoted(spelling[path] ?? path))"
          + " set in line \(earlier.line)", hint: "keep one of them")
    }
    leaves[path] = node
    spelling[path] = word
  }

  /// A key nobody knows, or one of another trainer.
  private mutating func stranger(
    _ entry: ConfigNode.Entry, block: String, known: [String]
  ) throws {
    let word = entry.key
    let node = entry.value
    if let why = ForeignKeys.withoutEffect[word] {
      notices.append("\(node.source) line \(entry.keyLine): \(word) has no effect: \(why)")
      return
    }
    if let why = ForeignKeys.refused[word] {
      if node.isNull || (try? node.bool()) == false { return }
      throw ConfigError(
        source: node.source, line: entry.keyLine, path: block,
        what: "\(word) cannot be honoured: \(why)")
    }
    throw ConfigError(
      source: node.source, line: entry.keyLine, path: block, what: "unknown key \(quoted(word))",
      hint: nearest(to: word, in: known).map { "did you mean '\($0)'?" }
        ?? (known.count < 8 ? "known keys: \(known.joined(separator: ", "))" : nil)
        ?? "`paft keys` lists all keys")
  }

  private func names(_ section: RecipeSection) -> [String] {
    section.keys.flatMap { [$0.name] + $0.aliases }
  }

  private func scalar(_ text: String, like node: ConfigNode) -> ConfigNode {
    var copy = node
    copy.value = .scalar(text, plain: true)
    return copy
  }

  static func shown(_ path: String) -> String {
    path.hasPrefix("shared.") ? String(path.dropFirst(7)) : path
  }
}
