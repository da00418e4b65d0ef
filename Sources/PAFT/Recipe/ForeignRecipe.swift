// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTraining

/// A training YAML of TRL's scripts, of axolotl or of LLaMA-Factory as a recipe with one branch:
/// keys by the alias table of `RecipeKeys`, the other program's defaults where it names none, and a
/// line for everything that has no counterpart. Exit code 78 for kinds of training that are not here.
struct ForeignRecipe {
  enum Program: String {
    case trl = "TRL"
    case axolotl
    case llamaFactory = "LLaMA-Factory"
  }

  let program: String
  /// `sft` or `align`.
  let branch: String
  /// The recipe, with what was dropped as comments.
  private(set) var yaml: String
  /// `line 7: gradient_checkpointing_kwargs: …`.
  private(set) var dropped: [String] = []
  /// What is carried over as something that is not quite the same.
  private(set) var changed: [String] = []

  private let root: ConfigNode
  /// Lines of the recipe: at the top, of the adapter, of the branch.
  private var top: [(key: String, text: String)] = []
  private var adapter: [(key: String, text: String)] = []
  private var training: [(key: String, text: String)] = []

  init(_ root: ConfigNode) throws {
    self.root = root
    let entries = try root.entries()
    let program = try Self.program(root)
    self.program = program.rawValue
    let (branch, loss) = try Self.kind(root, program)
    self.branch = branch
    yaml = ""
    if let loss { training.append(("loss", loss)) }
    try readData(program)
    try readAdapter(program)
    for entry in entries where !handled.contains(entry.key) { carry(entry) }
    try readLabels(program)
    addDefaults(program)
    try settle()
    yaml = written()
  }

  // MARK: - What it is

  private static func program(_ root: ConfigNode) throws -> Program {
    if root["base_model"] != nil { return .axolotl }
    guard root["model_name_or_path"] != nil else {
      throw ConfigError(
        source: root.source, line: 1, what: "neither model_name_or_path nor base_model",
        hint: "import reads the YAML of TRL's scripts, of axolotl and of LLaMA-Factory")
    }
    let marks = ["stage", "finetuning_type", "cutoff_len", "do_train", "pref_loss", "template"]
    return marks.contains { root[$0] != nil } ? .llamaFactory : .trl
  }

  /// Keys that only trainers of other kinds have.
  private static let otherTrainers: [String: String] = [
    "num_generations": "GRPO", "reward_funcs": "GRPO", "reward_model_path": "PPO",
    "num_ppo_epochs": "PPO", "desirable_weight": "KTO", "undesirable_weight": "KTO",
    "teacher_model_name_or_path": "distillation", "center_rewards_coefficient": "reward modelling",
  ]

  private static func kind(
    _ root: ConfigNode, _ program: Program
  ) throws -> (branch: String, loss: String?) {
    for key in root.keys {
      if let trainer = otherTrainers[key], let node = root[key], !node.isNull {
        throw node.error("\(key) belongs to \(trainer), which is not supported", hint: kinds)
      }
    }
    func refused(_ node: ConfigNode) -> ConfigError {
      node.error("expected a kind of training that is supported", hint: kinds)
    }
    func known(_ text: String, _ node: ConfigNode) throws -> String {
      do { _ = try PreferenceLoss.named(text) } catch {
        throw node.error(error.message, hint: kinds)
      }
      return text
    }
    switch program {
    case .llamaFactory:
      guard let stage = root["stage"] else { return ("sft", nil) }
      switch try stage.string() {
      case "sft": return ("sft", nil)
      case "dpo":
        let node = root["pref_loss"]
        return ("align", try node.map { try known(try $0.string(), $0) } ?? "dpo")
      default: throw refused(stage)
      }
    case .axolotl:
      guard let kind = root["rl"], !kind.isNull, (try? kind.bool()) != false else {
        return ("sft", nil)
      }
      let word = try kind.string()
      guard ["dpo", "ipo", "orpo", "simpo"].contains(word) else { throw refused(kind) }
      if let node = root["dpo_loss_type"], let type = try RecipeValue.texts(node).first {
        return ("align", try known(type, node))
      }
      return ("align", word)
    case .trl:
      if let node = root["loss_type"], !node.isNull {
        let names = try RecipeValue.texts(node)
        // SFTConfig has a key of that name too.
        if names.count == 1, ["nll", "dft", "chunked_nll"].contains(names[0]) {
          return ("sft", nil)
        }
        if names.contains("kto") { throw refused(node) }
        let losses = try names.map { try known($0, node) }
        return ("align", losses.count == 1 ? losses[0] : "[\(losses.joined(separator: ", "))]")
      }
      let marks = [
        "beta", "label_smoothing", "precompute_ref_log_probs", "max_prompt_length",
        "ref_model_init_kwargs", "sync_ref_model", "loss_weights", "cpo_alpha",
      ]
      return marks.contains { root[$0] != nil } ? ("align", "dpo") : ("sft", nil)
    }
  }

  private static let kinds =
    "supported: sft, and preference training on pairs (dpo, ipo, orpo, simpo, …)"

  // MARK: - Special keys

  /// Keys that `readData` and `readAdapter` answer for, and those that say what kind it is.
  private let handled: Set<String> = [
    "model_name_or_path", "base_model", "output_dir", "stage", "rl", "loss_type", "pref_loss",
    "dpo_loss_type", "dataset", "dataset_name", "dataset_dir", "datasets", "use_peft", "adapter",
    "finetuning_type", "lora_target_linear", "lora_target_modules", "lora_target", "load_in_4bit",
    "load_in_8bit", "quantization_bit", "bf16", "fp16", "pure_bf16", "train_on_prompt",
    "train_on_inputs",
  ]

  private mutating func readData(_ program: Program) throws {
    let model = try root.required(program == .axolotl ? "base_model" : "model_name_or_path")
    top.append(("model", Self.quotedScalar(try model.string())))
    if let output = root["output_dir"], !output.isNull {
      top.append(("output", Self.quotedScalar(try output.string())))
    } else {
      top.append(("output", "./run"))
    }
    var names: [String] = []
    if let sets = root["datasets"], !sets.isNull {
      for (index, set) in try sets.elements().enumerated() {
        if set.isScalar {
          names.append(try set.string())
          continue
        }
        names.append(try set.required("path").string())
        for key in set.keys where key != "path" {
          drop(set[key]!.line, "datasets[\(index)].\(key)", "rows say themselves what they are")
        }
      }
    } else if let node = root[program == .trl ? "dataset_name" : "dataset"], !node.isNull {
      let text = try node.string()
      names = text.split(separator: ",").map { String($0.filter { $0 != " " }) }
    }
    guard let first = names.first else {
      throw ConfigError(
        source: root.source, line: 1, what: "no data set",
        hint: "expected dataset_name (TRL), datasets (axolotl) or dataset (LLaMA-Factory)")
    }
    let path = program == .llamaFactory ? try registered(first) : first
    training.insert(("data", Self.quotedScalar(path)), at: 0)
    for name in names.dropFirst() {
      drop(nil, "data set \(quoted(name))", "a branch reads one file: join them")
    }
    if ![".json", ".jsonl"].contains(where: path.hasSuffix) {
      drop(
        nil, "data set \(quoted(path))",
        "nothing is fetched: save it as JSON lines and put its path")
    }
    if program == .llamaFactory { readTemplate() }
    readPrecision()
  }

  /// The file of a data set that LLaMA-Factory's dataset_info.json names.
  private func registered(_ name: String) throws -> String {
    let folder = try root["dataset_dir"].map { try $0.string() } ?? "data"
    let base = Paths.absolute(folder, from: FileSystem.parent(of: root.source))
    let info = base + "/dataset_info.json"
    guard FileSystem.isFile(info), let file = try JSON.read(path: info)[name]?["file_name"]?.string
    else { return name }
    return folder + "/" + file
  }

  private mutating func readTemplate() {
    guard let node = root["template"], !node.isNull else { return }
    drop(node.line, "template", "the model's own chat template is used")
  }

  private mutating func readPrecision() {
    let off = root["bf16"].map { (try? $0.bool()) == false } ?? false
    let half = root["fp16"].map { (try? $0.bool()) == true } ?? false
    top.append(("dtype", off && !half ? "f32" : "bf16"))
    for key in ["fp16", "load_in_4bit", "load_in_8bit", "quantization_bit"] {
      guard let node = root[key], !node.isNull, (try? node.bool()) != false else { continue }
      let inBytes = key == "load_in_8bit" || (key == "quantization_bit" && (try? node.int()) == 8)
      if key == "fp16" {
        drop(node.line, key, "bf16 is used instead")
      } else if !inBytes {
        drop(node.line, key, "the base is not quantised to 4 bits: it takes more memory")
      } else if !top.contains(where: { $0.key == "base_dtype" }) {
        top.append(("base_dtype", "int8"))
        changed.append(
          "\(place(node.line))\(key) becomes base_dtype: int8, which is paft's own int8, not "
            + "bitsandbytes'")
      }
    }
  }

  private mutating func readAdapter(_ program: Program) throws {
    let type: String
    switch program {
    case .trl:
      let used = try root["use_peft"].map { try $0.bool() } ?? false
      type = used ? "lora" : "full"
    case .axolotl:
      let node = root["adapter"]
      switch try node.flatMap({ try $0.isNull ? nil : $0.string() }) {
      case nil: type = "full"
      case "lora": type = "lora"
      case "qlora":
        type = "lora"
        drop(node?.line, "adapter: qlora", "trained as LoRA on a base that is not quantised")
      default: throw node!.error("expected lora, qlora or nothing")
      }
    case .llamaFactory:
      type = try root["finetuning_type"].map { try $0.choice(["lora", "full"]) } ?? "lora"
    }
    adapter.append(("type", type))
    guard type == "lora" else { return }
    let node = root["lora_target_modules"] ?? root["lora_target"]
    let linear = try root["lora_target_linear"].map { try $0.bool() } ?? false
    guard !linear, let node, !node.isNull else {
      if program != .trl || linear { adapter.append(("target_modules", "all-linear")) }
      if program == .trl, !linear {
        drop(nil, "lora_target_modules", "PEFT's default for the model: all linear layers are used")
      }
      return
    }
    var names: [String] = []
    for text in try RecipeValue.texts(node) {
      for name in text.split(separator: ",") { names.append(name.filter { $0 != " " }) }
    }
    let all = names == ["all"] || names == ["all-linear"]
    adapter.append(
      ("target_modules", all ? "all-linear" : "[" + names.joined(separator: ", ") + "]"))
  }

  /// LLaMA-Factory and axolotl train answers alone, of conversations too, unless they are told
  /// otherwise; TRL all turns.
  private mutating func readLabels(_ program: Program) throws {
    guard program != .trl, branch == "sft" else { return }
    let node = root[program == .axolotl ? "train_on_inputs" : "train_on_prompt"]
    let everything = try node.map { $0.isNull ? false : try $0.bool() } ?? false
    training.append(("assistant_only_loss", everything ? "false" : "true"))
    if everything { training.append(("completion_only_loss", "false")) }
  }

  // MARK: - The rest

  private mutating func carry(_ entry: ConfigNode.Entry) {
    let (word, node) = (entry.key, entry.value)
    if node.isNull { return }
    if let why = ForeignKeys.withoutEffect[word] {
      drop(entry.keyLine, word, why)
    } else if let why = ForeignKeys.refused[word] {
      if (try? node.bool()) == false { return }
      drop(entry.keyLine, word, why)
    } else if let text = Self.yaml(node) {
      if let key = RecipeSection.adapter.key(word), word.contains("lora") {
        if adapter.contains(where: { $0.text == "lora" }) { adapter.append((key.name, text)) }
      } else if let key = RecipeSection.top.key(word) {
        if key.name != "dtype" { top.append((key.name, text)) }
      } else if let key = RecipeSection.branch.key(word) {
        training.append((key.name, text))
      } else if branch == "align", let key = RecipeSection.preference.key(word) {
        training.append((key.name, text))
      } else {
        drop(entry.keyLine, word, "has no counterpart")
      }
    } else {
      drop(entry.keyLine, word, "has no counterpart")
    }
  }

  /// What the other program does where its file says nothing.
  private mutating func addDefaults(_ program: Program) {
    let align = branch == "align"
    var defaults: [(String, String)] = [("eval_fraction", "0")]
    switch program {
    case .trl:
      defaults += [
        ("epochs", "3"), ("batch_size", "8"), ("learning_rate", align ? "1e-6" : "2e-5"),
        ("lr_scheduler", "linear"), ("warmup_ratio", "0"), ("max_length", "1024"),
      ]
    case .llamaFactory:
      defaults += [
        ("epochs", "3"), ("batch_size", "8"), ("learning_rate", "5e-5"),
        ("lr_scheduler", "linear"), ("warmup_ratio", "0"), ("max_length", "2048"),
      ]
    case .axolotl:
      defaults += [
        ("epochs", "1"), ("batch_size", "1"), ("lr_scheduler", "cosine"), ("warmup_ratio", "0.03"),
        ("max_length", "512"),
      ]
    }
    for (key, value) in defaults where !training.contains(where: { $0.key == key }) {
      if key == "warmup_ratio", training.contains(where: { $0.key == "warmup_steps" }) { continue }
      training.append((key, value))
    }
    guard adapter.first?.text == "lora" else { return }
    let rank = adapter.first { $0.key == "r" }?.text ?? (program == .llamaFactory ? "8" : "16")
    if !adapter.contains(where: { $0.key == "r" }) { adapter.append(("r", rank)) }
    if !adapter.contains(where: { $0.key == "alpha" }) {
      let twice = Int(rank).map { String(2 &* $0) } ?? "32"
      adapter.append(("alpha", program == .llamaFactory ? twice : program == .trl ? "32" : rank))
    }
    if program == .trl, !adapter.contains(where: { $0.key == "dropout" }) {
      adapter.append(("dropout", "0.05"))
    }
  }

  /// Leaves out every line that the recipe reader refuses, and says what it said.
  private mutating func settle() throws {
    for _ in 0..<64 {
      do {
        _ = try Recipe.resolve(
          ConfigNode.parse(body, source: "recipe"), overrides: [], folder: ".",
          scope: branch == "sft" ? .sft : .align)
        return
      } catch let error as ConfigError {
        // Without its loss the run would be another one.
        guard let key = remove(line: error.line), key != "loss" else { throw error }
        drop(nil, key, error.what)
      }
    }
  }

  private mutating func remove(line: Int) -> String? {
    // `body` writes the top, then "adapter:" with its lines, then the branch's.
    var index = line - 1
    if top.indices.contains(index) {
      return index < 2 ? nil : top.remove(at: index).key
    }
    index -= top.count + 1
    if adapter.indices.contains(index) {
      return index < 1 ? nil : adapter.remove(at: index).key
    }
    index -= adapter.count + 1
    return training.indices.contains(index) && index > 0 ? training.remove(at: index).key : nil
  }

  private mutating func drop(_ line: Int?, _ key: String, _ why: String) {
    dropped.append("\(place(line))\(key) is not carried over: \(why)")
  }

  private func place(_ line: Int?) -> String {
    line.map { "\(root.source) line \($0): " } ?? "\(root.source): "
  }

  // MARK: - Writing

  private var body: String {
    var text = top.map { "\($0.key): \($0.text)\n" }.joined()
    text += "adapter:\n" + adapter.map { "  \($0.key): \($0.text)\n" }.joined()
    text += "\(branch):\n" + training.map { "  \($0.key): \($0.text)\n" }.joined()
    return text
  }

  private func written() -> String {
    let verb = branch == "sft" ? "sft" : "align"
    let other = branch == "sft" ? "align" : "sft"
    var text =
      "# Made by `paft import` from \(FileSystem.lastComponent(root.source)) (\(program)).\n"
    text += "# `paft run` also needs a branch `\(other)`; alone, as \(program) ran it:\n"
    let value = { (pairs: [(key: String, text: String)], key: String) in
      pairs.first { $0.key == key }?.text ?? ""
    }
    text +=
      "#   paft \(verb) --model \(value(top, "model")) --data \(value(training, "data")) "
      + "--output \(value(top, "output"))"
    let settings =
      top.dropFirst(2).map { ($0.key, $0.text) }
      + adapter.map { ("adapter." + $0.key, $0.text) }
      + training.dropFirst().map { ($0.key, $0.text) }
    for (key, setting) in settings { text += " \\\n#     --set '\(key)=\(setting)'" }
    text += "\n"
    for (title, lines) in [("Carried over as", changed), ("Not carried over", dropped)]
    where !lines.isEmpty {
      text += "#\n# \(title):\n"
      for line in lines { text += "#   \(line)\n" }
    }
    return text + "\n" + body
  }

  /// A scalar or a list of scalars in one line; nil for anything deeper.
  private static func yaml(_ node: ConfigNode) -> String? {
    switch node.value {
    case .scalar(let text, _): return quotedScalar(text)
    case .sequence(let nodes):
      var parts: [String] = []
      for node in nodes {
        guard case .scalar(let text, _) = node.value else { return nil }
        parts.append(quotedScalar(text))
      }
      return "[" + parts.joined(separator: ", ") + "]"
    case .mapping: return nil
    }
  }

  /// Plain where YAML reads it back as the same text, else in double quotes (as JSON writes them).
  private static func quotedScalar(_ text: String) -> String {
    let isPlain =
      !text.isEmpty
      && text.utf8.allSatisfy {
        ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A)
          || "._-/+".utf8.contains($0)
      } && text.first != "-" && text.first != "+"
    return isPlain ? text : JSON.string(text).serialized()
  }
}
