use candle_core::Device;
use vxf_llama as _;
fn main() {
    let seed: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let out = std::env::args().nth(2).unwrap();
    let t = std::time::Instant::now();
    let w = vxf_nano::pretrain(
        &vxf_nano::Pretraining { seed, ..Default::default() },
        &Device::Cpu,
        |o| {
            if o.step % 50 == 0 || o.step < 3 {
                eprintln!("{} {:.4} {:.1?}", o.step, o.figures["loss"], t.elapsed());
            }
            Ok(())
        },
    )
    .unwrap();
    std::fs::create_dir_all(&out).unwrap();
    let map: std::collections::HashMap<String, candle_core::Tensor> = w.into_iter().collect();
    candle_core::safetensors::save(&map, format!("{out}/model.safetensors")).unwrap();
    std::fs::write(format!("{out}/config.json"), vxf_nano::CONFIG).unwrap();
    std::fs::write(format!("{out}/tokenizer.json"), vxf_data::tokenizer_json().unwrap()).unwrap();
}
