// SPDX-License-Identifier: Apache-2.0

internal import PAFTKernelInterface
import PAFTModels
import PAFTOps

// What a checkpoint holds of the tensors that are trained: weights as they are kept, and moments.

extension Trainable {
  var checkpointBuffers: [CheckpointBuffer] {
    (layerwise?.weightBuffers ?? [CheckpointBuffer("values", values, count: floats)])
      + momentBuffers
  }

  private var momentBuffers: [CheckpointBuffer] {
    if let eightBit {
      return [
        CheckpointBuffer("first_moment", eightBit.first, count: eightBit.count),
        CheckpointBuffer("second_moment", eightBit.second, count: eightBit.count),
        CheckpointBuffer("first_scales", eightBit.firstScales, count: eightBit.blocks),
        CheckpointBuffer("second_scales", eightBit.secondScales, count: eightBit.blocks),
      ]
    }
    return [("first_moment", first), ("second_moment", second)].compactMap { name, moment in
      moment.map { CheckpointBuffer(name, $0, count: floats) }
    }
  }
}

extension LayerwiseTraining {
  /// Panels as they are, so that a checkpoint costs no second copy; their names say how wide they
  /// are, and kernels with other panels do not read them.
  fileprivate var weightBuffers: [CheckpointBuffer] {
    store.table.rows.indices.compactMap { index in
      let name = store.table.rows[index].name
      if let vector = store.vectors[index] {
        return CheckpointBuffer(name, vector, count: store.table.rows[index].count)
      }
      return store.operands[index].map {
        CheckpointBuffer(
          name + ".panels\($0.matrix.tile.columns)",
          $0.matrix.base.assumingMemoryBound(to: UInt16.self), count: $0.matrix.bytes / 2)
      }
    }
  }
}
