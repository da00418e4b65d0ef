// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// Every way a safetensors file can be wrong, one case each.
package struct SafetensorsError: Diagnosable, Equatable {
  package enum Reason: Sendable, Equatable {
    /// Fewer than the eight bytes of the header length.
    case tooShort(bytes: Int)
    /// Header length above the format's cap of 100 MB.
    case headerTooLarge(bytes: UInt64)
    case headerBeyondFile(header: Int, file: Int)
    case headerEmpty
    /// The first header byte is not `{`.
    case headerNotObject(byte: UInt8)
    case headerNotJSON(JSONError)
    /// `__metadata__` is not an object of strings.
    case badMetadata(key: String?)
    case entryNotObject(tensor: String)
    case missingField(tensor: String, field: String)
    case unknownField(tensor: String, field: String)
    case unknownType(tensor: String, found: String)
    case badShape(tensor: String, found: String)
    case badOffsets(tensor: String, found: String)
    case sizeOverflow(tensor: String)
    case offsetsReversed(tensor: String, begin: Int, end: Int)
    case sizeMismatch(tensor: String, offsets: Int, shape: Int)
    case outsideFile(tensor: String, end: Int, data: Int)
    case hole(tensor: String, begin: Int, expected: Int)
    case overlap(tensor: String, begin: Int, expected: Int)
    case trailingBytes(end: Int, data: Int)
  }

  package let path: String
  package let reason: Reason

  package var exitCode: ExitCode { .data }

  package var message: String { "\(path): \(reason.words)" }

  package var hint: String? {
    switch reason {
    case .tooShort, .headerBeyondFile, .outsideFile: "the file may be truncated: fetch it again"
    case .headerNotObject: "is it a safetensors file? pickles (.bin, .pt) are not read"
    default: nil
    }
  }
}

extension SafetensorsError.Reason {
  var words: String {
    switch self {
    case .tooShort(let bytes): "\(bytes) bytes, expected at least 8 for the header length"
    case .headerTooLarge(let bytes):
      "header of \(bytes) bytes, expected at most \(SafetensorsHeader.maximumBytes)"
    case .headerBeyondFile(let header, let file):
      "header of \(header) bytes does not fit the file of \(file)"
    case .headerEmpty: "header of 0 bytes, expected a JSON object"
    case .headerNotObject(let byte):
      "header starts with byte 0x\(String(byte, radix: 16)), expected '{'"
    case .headerNotJSON(let error):
      "header line \(error.line), byte \(error.offset): \(error.reason.words)"
    case .badMetadata(let key?): "__metadata__ \(quoted(key)) is not a string"
    case .badMetadata(nil): "__metadata__ is not an object"
    case .entryNotObject(let tensor): "tensor \(quoted(tensor)): entry is not an object"
    case .missingField(let tensor, let field): "tensor \(quoted(tensor)): no \(field)"
    case .unknownField(let tensor, let field):
      "tensor \(quoted(tensor)): unknown field \(quoted(field))"
    case .unknownType(let tensor, let found):
      "tensor \(quoted(tensor)): unknown dtype \(quoted(found))"
    case .badShape(let tensor, let found):
      "tensor \(quoted(tensor)): shape holds \(found), expected integers of at least 0"
    case .badOffsets(let tensor, let found):
      "tensor \(quoted(tensor)): data_offsets hold \(found), expected two integers of at least 0"
    case .sizeOverflow(let tensor): "tensor \(quoted(tensor)): size overflows"
    case .offsetsReversed(let tensor, let begin, let end):
      "tensor \(quoted(tensor)): data_offsets run backwards, \(begin) to \(end)"
    case .sizeMismatch(let tensor, let offsets, let shape):
      "tensor \(quoted(tensor)): data_offsets span \(offsets) bytes, shape and dtype say \(shape)"
    case .outsideFile(let tensor, let end, let data):
      "tensor \(quoted(tensor)): ends at byte \(end) of the data, which has \(data)"
    case .hole(let tensor, let begin, let expected):
      "tensor \(quoted(tensor)): starts at byte \(begin), a hole after byte \(expected)"
    case .overlap(let tensor, let begin, let expected):
      "tensor \(quoted(tensor)): starts at byte \(begin), inside the one that ends at \(expected)"
    case .trailingBytes(let end, let data):
      "tensors end at byte \(end) of the data, which has \(data)"
    }
  }
}
