// Keeps one dataset's thumbnails, one picture for all of them, where every map of the page finds it: THUMBNAILS.

const THUMBNAILS = (globalThis[Symbol.for("explorer.thumbnails")] ??= new Map()); // dataset -> the picture and its layout

export default function ({ data }) {
  const { head, arrays } = unpack(data);
  if (THUMBNAILS.get(head.dataset)?.bytes === arrays.jpeg.length) return;
  createImageBitmap(new Blob([arrays.jpeg], { type: "image/jpeg" })).then((picture) => {
    THUMBNAILS.set(head.dataset, { ...head, picture, bytes: arrays.jpeg.length });
    globalThis.dispatchEvent(new Event("explorer.thumbnails"));
  });
}
