import Imaging
import SegmentAnything
import Segmentation
import Tensors

func cutOut(of picture: String, at x: Double, _ y: Double, checkpoint: String) throws -> [PredictedMask] {
    let model = try ModelFamilies.open(path: checkpoint)
    let pool = ThreadPool()
    let features = try model.imageEncoder().encode(try ImageDecoder().decode(file: picture), pool: pool)
    let image = try model.promptDecoder().prepare(features, pool: pool)  // once per picture
    return try image.predict([Prompt(points: [LabeledPoint(x: x, y: y)])], multimask: true, pool: pool)[0]
}
