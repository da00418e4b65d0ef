// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTText

/// `paft import`: what other programs wrote, as paft has it. A GGUF file becomes a model folder, a
/// YAML of TRL, axolotl or LLaMA-Factory a recipe.
package struct ImportVerb: Sendable {
  package var file: String
  package var output: String
  package var replaces = false

  package init(file: String, output: String) {
    self.file = file
    self.output = output
  }

  package func run(_ note: (String) -> Void) throws(PAFTError) -> (text: String, json: String) {
    try PAFTError.wrapping {
      guard FileSystem.exists(file) else {
        throw Fault(
          .missingInput, "\(quoted(file)) does not exist",
          hint: "import reads a .gguf file, or the YAML of TRL, axolotl or LLaMA-Factory")
      }
      if GGUFFile.isGGUF(file) { return try model() }
      return try recipe(note)
    }
  }

  private func model() throws -> (text: String, json: String) {
    let gguf = try GGUFFile(file)
    let source = try GGUFImport(gguf)
    let tokenizer = try GGUFTokenizerReader.files(gguf)
    let folder = try OutputFolder(output, replacing: replaces)
    try folder.write("config.json", source.config)
    if let tokenizer {
      try folder.write("tokenizer.json", tokenizer.tokenizer)
      try folder.write("tokenizer_config.json", tokenizer.configuration)
    }
    try source.writeWeights(into: folder.path)
    try folder.commit()
    let json: JSON = [
      "output": .string(output), "kind": "model", "tensors": JSON(gguf.tensors.count),
      "tokenizer": JSON(tokenizer != nil),
    ]
    let text =
      "\(output): \(gguf.tensors.count) tensors"
      + (tokenizer == nil ? "; the file has no tokenizer\n" : " and the tokenizer\n")
    return (text, json.serialized(pretty: true))
  }

  private func recipe(_ note: (String) -> Void) throws -> (text: String, json: String) {
    let imported = try ForeignRecipe(ConfigNode.read(file))
    guard replaces || !FileSystem.exists(output) else {
      throw Fault(.cannotCreate, "\(quoted(output)) exists", hint: "--overwrite replaces it")
    }
    for line in imported.changed + imported.dropped { note(line) }
    try FileSystem.replace(output, with: imported.yaml.utf8)
    let json: JSON = [
      "output": .string(output), "kind": "recipe", "program": .string(imported.program),
      "branch": .string(imported.branch), "dropped": .array(imported.dropped.map { .string($0) }),
      "changed": .array(imported.changed.map { .string($0) }),
    ]
    return (
      "\(output): a recipe of \(imported.program)'s \(imported.branch), "
        + "\(imported.dropped.count) keys not carried over\n",
      json.serialized(pretty: true)
    )
  }
}
