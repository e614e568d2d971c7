import Checkpoints
import Hashing
import Imaging
import SegmentAnything
import Segmentation
import Tensors

// The examples of documentation comments on models, pictures and their files, word for word; around them is what they
// speak of.

func openedCheckpoint() throws -> Tensor {
    let checkpoint = try Checkpoint(path: "sam_vit_b_01ec64.pth")
    let weight = try checkpoint.tensor(named: "image_encoder.neck.0.weight", shape: [256, 768, 1, 1])
    return weight
}

func writtenEmbedding(_ embedding: Tensor) throws {
    try SafetensorsWriter.write([.init("image_embedding", embedding)], to: "photo.safetensors")
}

func readPhoto() throws -> Image {
    let photo = try ImageDecoder().decode(file: "truck.jpg")
    return photo
}

func printedGeometry() throws {
    let model = try SamCheckpoint(Checkpoint(path: "sam_vit_b_01ec64.pth"))
    print(model.geometry)
}

func maskedBySam(_ photo: Image, _ prompt: Prompt, pool: ThreadPool) throws -> [[PredictedMask]] {
    let model = try SamModel(path: "sam_vit_b_01ec64.pth")
    let features = try model.encoder().encode(photo, pool: pool)
    let image = try model.decoder().prepare(features, pool: pool)
    let masks = try image.predict([prompt], multimask: true, pool: pool)
    return masks
}

func maskedByAnyFamily(_ photo: Image, _ prompt: Prompt, pool: ThreadPool) throws -> [[PredictedMask]] {
    let model = try ModelFamilies.open(path: "sam_vit_b_01ec64.pth")
    let features = try model.imageEncoder().encode(photo, pool: pool)
    let image = try model.promptDecoder().prepare(features, pool: pool)
    let masks = try image.predict([prompt], multimask: true, pool: pool)
    return masks
}

func maskedOnATile(
    _ photo: Image, _ prompt: Prompt, encoder: any ImageEncoding, decoder: any PromptDecoding, pool: ThreadPool
) throws -> [MaskCandidate] {
    let tiled = TiledPrediction(encoder: encoder, decoder: decoder)
    let masks = try tiled.masks(of: prompt, in: photo, multimask: false, pool: pool)
    return masks
}

func hashed(_ piece: [UInt8]) -> SHA256.Digest {
    var hash = SHA256()
    hash.update(piece)
    let digest = hash.finalize()
    return digest
}
