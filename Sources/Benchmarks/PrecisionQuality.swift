package import Evaluation
package import Imaging
package import SegmentAnything
package import Tensors

/// How near a precision's masks come to those of fp32, on labelled pictures.
package struct PrecisionQuality {
    /// The mean IoU of each mask with its counterpart, by the set of pictures.
    package struct Figures: Encodable, Sendable {
        package struct Row: Encodable, Sendable {
            package var mean_iou = 0.0
            package var masks = 0
        }
        package let model: String
        package let precision: String
        package var sets: [String: Row] = [:]
        package var all = Row()
    }

    private let agreement: Agreement
    private let model: String
    private let precision: Precision

    /// Loads a model in both precisions.
    ///
    /// - Parameters:
    ///   - model: the opened model.
    ///   - name: what the figures call it.
    ///   - precision: which is held against fp32.
    ///   - corrections: clicks after the first.
    ///   - pictures: reads them.
    ///   - pool: the threads that share the work.
    /// - Throws: where a tensor cannot be read.
    package init(
        _ model: any SegmentationModel, name: String, precision: Precision, corrections: Int, pictures: ImageDecoder,
        pool: ThreadPool
    ) throws {
        agreement = Agreement(
            exact: (try model.imageEncoder(precision: .float32), try model.promptDecoder(precision: .float32)),
            other: (try model.imageEncoder(precision: precision), try model.promptDecoder(precision: precision)),
            corrections: corrections, pictures: pictures, pool: pool)
        self.model = name
        self.precision = precision
    }

    /// Compares the masks of several sets.
    ///
    /// - Parameters:
    ///   - sets: the pictures.
    ///   - notes: called with what is to be said of a picture, and its file.
    ///   - begins: called before each set; what it returns is called with how many of the set's pictures are done.
    /// - Returns: the figures of each set and of all masks.
    /// - Throws: where a picture or a label map cannot be read, or a prompt cannot be used.
    package func measure(
        _ sets: [DataSet], notes: ([ImageNote], String) -> Void, begins: (DataSet) -> (Int) -> Void
    ) throws -> Figures {
        var figures = Figures(model: model, precision: precision.rawValue)
        for set in sets {
            let (mean, masks) = try agreement.measure(set, notes: notes, progress: begins(set))
            figures.sets[set.name] = Figures.Row(mean_iou: mean, masks: masks)
        }
        let masks = figures.sets.values.reduce(0) { $0 + $1.masks }
        let sum = figures.sets.values.reduce(0) { $0 + $1.mean_iou * Double($1.masks) }
        figures.all = Figures.Row(mean_iou: sum / Double(max(1, masks)), masks: masks)
        return figures
    }
}
