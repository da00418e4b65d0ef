// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats

/// Writing a Hugging Face model folder from flat Floats.
package enum ModelWriter {
  /// Everything beside the weights that another tool needs to use a model: copied from the base.
  package static let companions = [
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja", "chat_template.json",
  ]

  /// Writes the weights of `table` at `values`, and config.json and the companions of `base`.
  ///
  /// - Parameter dtype: .f32 or .bf16 (rounded to nearest even).
  package static func write(
    _ table: ParameterTable, _ values: UnsafePointer<Float>, dtype: DType, like base: String,
    into output: OutputFolder
  ) throws {
    let writer = try SafetensorsWriter(
      folder: output.path,
      tensors: table.rows.map { TensorDeclaration($0.name, dtype, $0.shape) })
    for row in table.rows { try writer.append(row.name, values + row.offset, count: row.count) }
    try writer.finish()
    try copyCompanions(of: base, dtype: dtype, into: output)
  }

  /// Writes trained operands as they are: in BF16.
  package static func write(_ store: WeightStore, like base: String, into output: OutputFolder)
    throws
  {
    let writer = try SafetensorsWriter(
      folder: output.path,
      tensors: store.table.rows.map { TensorDeclaration($0.name, .bf16, $0.shape) })
    for (index, row) in store.table.rows.enumerated() {
      if let vector = store.vectors[index] {
        try writer.append(row.name, vector, count: row.count)
      } else {
        try store.withValues(index) { try writer.append(row.name, $0, count: $1) }
      }
    }
    try writer.finish()
    try copyCompanions(of: base, dtype: .bf16, into: output)
  }

  package static func copyCompanions(of base: String, dtype: DType, into output: OutputFolder)
    throws
  {
    guard var config = try JSON.read(path: base + "/config.json").object else {
      throw Fault(.data, "\(base)/config.json: expected an object")
    }
    let name: JSON = dtype == .bf16 ? "bfloat16" : "float32"
    config.set(config["dtype"] != nil ? "dtype" : "torch_dtype", name)
    try output.write("config.json", .object(config))
    for file in companions where FileSystem.isFile(base + "/" + file) {
      try output.copy(base + "/" + file)
    }
  }
}
