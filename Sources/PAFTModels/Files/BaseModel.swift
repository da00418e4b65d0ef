// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTOps

/// A Hugging Face model folder opened for reading: its configuration, its tensors by row of the
/// parameter table, everything checked against each other before a byte is used.
package final class ModelFolder: Sendable {
  package let path: String
  package let configuration: ModelConfiguration
  package let table: ParameterTable
  private let archive: TensorArchive

  package init(_ path: String) throws {
    self.path = path
    configuration = try ModelConfiguration.read(folder: path)
    archive = try TensorArchive(path: path)
    let names = Set(archive.names)
    let asHead =
      configuration.tiedHead && !names.contains(ParameterTable.embeddingName)
      && names.contains(ParameterTable.headName)
    table = ParameterTable.decoder(
      configuration,
      embedding: asHead ? ParameterTable.headName : ParameterTable.embeddingName)
    for row in table.rows {
      guard let entry = archive[row.name] else {
        throw Fault(
          .data, "\(path): tensor \"\(row.name)\" is missing",
          hint: "config.json describes a \(configuration.family.architecture) with "
            + "\(configuration.layers) layers")
      }
      guard entry.shape == row.shape else {
        throw Fault(
          .data,
          "\(path): tensor \"\(row.name)\" has shape \(entry.shape), config.json says \(row.shape)")
      }
      guard entry.dtype.isFloat else {
        throw Fault(
          .data, "\(path): tensor \"\(row.name)\" is \(entry.dtype.rawValue), expected a float type"
        )
      }
    }
  }

  /// The tensor of a row as Floats.
  package func read(_ row: Parameter, into target: UnsafeMutablePointer<Float>) throws {
    let entry = archive[row.name]!
    try entry.copyFloats(into: target)
    // Read once: the file's pages need not stay beside their copy.
    entry.release()
  }

  /// Elements `range` of the tensor of a row as Floats.
  package func read(
    _ row: Parameter, _ range: Range<Int>, into target: UnsafeMutablePointer<Float>
  ) throws {
    try archive[row.name]!.copyFloats(range, into: target)
  }

  /// Lets the file's pages of elements `range` of a row go.
  func release(_ row: Parameter, _ range: Range<Int>) { archive[row.name]!.release(range) }

  /// Lets the file's pages of a row go.
  package func release(_ row: Parameter) { archive[row.name]!.release() }

  /// Element type the weights are stored in: that of the embedding.
  package var storage: DType { archive[table.rows[0].name]!.dtype }

  /// Bytes of the largest tensor as Floats.
  package var largestTensor: Int { table.rows.reduce(0) { max($0, $1.count * 4) } }
}

/// The frozen base that both branches start from and that is also the reference of DPO. Loaded
/// once, read by everyone, written by no one.
package final class BaseModel: @unchecked Sendable {
  package let folder: ModelFolder
  package let quantizes: Bool
  private var loaded: WeightStore?

  package var configuration: ModelConfiguration { folder.configuration }
  package var store: WeightStore {
    guard let loaded else { preconditionFailure("this base was not loaded") }
    return loaded
  }
  package var weights: Weights { store.weights }
  /// Nothing for one that is not loaded.
  package var memory: [Arena] { loaded?.weights.memory ?? [] }

  /// A folder that is only read from, until `load`.
  package init(unloaded folder: ModelFolder, quantizes: Bool) {
    self.folder = folder
    self.quantizes = quantizes
  }

  /// Loads it for scoring, if it is not. No other thread uses the base meanwhile.
  package func load(on executor: Executor) throws {
    if loaded == nil { try load(backward: false, turns: false, on: executor) }
  }

  private func load(backward: Bool, turns: Bool, on executor: Executor) throws {
    loaded = try WeightStore(
      folder.table, folder.configuration, keepsMaster: false, backward: backward,
      quantizes: quantizes, turns: turns, name: "base", on: executor,
      part: { [folder] row, range, target in
        try folder.read(row, range, into: target)
        folder.release(row, range)
      }
    ) { [folder] in try folder.read($0, into: $1) }
  }

  /// - Parameters:
  ///   - backward: whether gradients will pass through (LoRA), which needs a second layout,
  ///   - turns: or turns the panels of the first.
  ///   - quantizes: whether the linear layers of the blocks are held in 8 bits.
  package init(
    _ folder: ModelFolder, backward: Bool, quantizes: Bool = false, turns: Bool = false,
    on executor: Executor
  ) throws {
    self.folder = folder
    self.quantizes = quantizes
    try load(backward: backward, turns: turns, on: executor)
  }
}
