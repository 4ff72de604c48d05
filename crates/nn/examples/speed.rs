//! temp
use candle_core::*;
use vxf_nn::*;
fn time(name:&str, mut f: impl FnMut()->Result<()>) { f().unwrap(); let t=std::time::Instant::now(); let mut n=0; while t.elapsed().as_secs_f64()<1.0 || n<3 {f().unwrap(); n+=1;} println!("{name}: {:.3} ms", t.elapsed().as_secs_f64()*1e3/n as f64); }
fn main()->Result<()> {
 if std::env::args().nth(1).is_some() { let d=&Device::Cpu;
 let r=|s:&[usize]| Tensor::randn(0f32,1.,s,d).unwrap();
 let (b,h,hk,t,dd)=(8,4,4,128,64);
  let q=Var::from_tensor(&r(&[b,h,t,dd]))?; let k=Var::from_tensor(&r(&[b,hk,t,dd]))?; let v=Var::from_tensor(&r(&[b,hk,t,dd]))?;
  let g=r(&[b,t,h*dd]);
  for _ in 0..3 {time("attn fwd+bwd", ||{ops::seed(&ops::attention(&q,&k,&v,None)?,&g)?.backward()?;Ok(())});}
  return Ok(()); }
 let d=&Device::Cpu;
 let r=|s:&[usize]| Tensor::randn(0f32,1.,s,d).unwrap();
 for (b,h,hk,t,dd) in [(8,4,4,128,64),(4,8,2,512,64)] {
  let q=Var::from_tensor(&r(&[b,h,t,dd]))?; let k=Var::from_tensor(&r(&[b,hk,t,dd]))?; let v=Var::from_tensor(&r(&[b,hk,t,dd]))?;
  println!("b{b} h{h} hk{hk} t{t} d{dd} causal fwd gflop {:.2}", 2.0*(b*h*t*t*dd) as f64/1e9);
  time("attn fwd", ||{ops::attention(&q.detach(),&k.detach(),&v.detach(),None)?;Ok(())});
  let g=r(&[b,t,h*dd]);
  time("attn fwd+bwd", ||{ops::seed(&ops::attention(&q,&k,&v,None)?,&g)?.backward()?;Ok(())});
  time("attn fwd slow", ||{compose::attention(&q.detach(),&k.detach(),&v.detach(),None)?;Ok(())});
  time("attn fwd+bwd slow", ||{compose::seed(&compose::attention(&q,&k,&v,None)?,&g)?.backward()?;Ok(())});
 }
 { let (b,h,t,dd)=(8,4,128,64);
  let q=Var::from_tensor(&r(&[b,h,t,dd]))?; let g=r(&[b,t,h*dd]); let k=r(&[b,h,t,dd]);
  time("only q", ||{ops::seed(&ops::attention(&q,&k,&k,None)?,&g)?.backward()?;Ok(())});
  time("only k", ||{ops::seed(&ops::attention(&k,&q,&k,None)?,&g)?.backward()?;Ok(())});
  time("only v", ||{ops::seed(&ops::attention(&k,&k,&q,None)?,&g)?.backward()?;Ok(())});
  }
 let h=Var::from_tensor(&r(&[8,128,256]))?; let w=r(&[4096,256]).affine(1.0,0.)?; let tg:Vec<i64>=(0..1024).map(|i| (i*7)%4096).collect();
 println!("ce gflop fwd {:.2}", 2.0*1024.*256.*4096./1e9);
 time("ce loss", ||{ops::linear_cross_entropy(&h.detach(),&w,&tg)?;Ok(())});
 time("ce loss+grad", ||{ops::linear_cross_entropy(&h,&w,&tg)?.backward()?;Ok(())});
 time("ce slow", ||{compose::linear_cross_entropy(&h,&w,&tg)?.backward()?;Ok(())});
 let a=Var::from_tensor(&r(&[1024,688]))?; let g=r(&[1024,688]);
 time("swiglu fwd 700k", ||{ops::swiglu(&a.detach(),&g)?;Ok(())});
 time("swiglu f+b 700k", ||{ops::seed(&ops::swiglu(&a,&g)?,&g)?.backward()?;Ok(())});
 let x=Var::from_tensor(&r(&[1024,256]))?; let gn=r(&[256]); let g=r(&[1024,256]);
 time("rms f+b 262k", ||{ops::seed(&ops::rms_norm(&x,&gn,1e-5)?,&g)?.backward()?;Ok(())});
 let (c,s)=(r(&[128,32]),r(&[128,32])); let x=Var::from_tensor(&r(&[8,128,256]))?; let g=r(&[8,4,128,64]);
 time("rotary f+b 262k", ||{ops::seed(&ops::rotary(&x,4,&c,&s,0)?,&g)?.backward()?;Ok(())});
 let x=Var::from_tensor(&r(&[1024,256]))?; let w=r(&[688,256]); let g=r(&[1024,688]); let a=Var::from_tensor(&r(&[8,256]))?; let b=Var::from_tensor(&r(&[688,8]))?;
 println!("linear f+b gflop {:.2}", 4.0*1024.*256.*688./1e9);
 time("linear f+b", ||{ops::seed(&ops::linear(&x,&w)?,&g)?.backward()?;Ok(())});
 time("lora f+b", ||{ops::seed(&ops::lora_linear(&x,&w,&a,&b,2.0,None)?,&g)?.backward()?;Ok(())});
 Ok(())
}
